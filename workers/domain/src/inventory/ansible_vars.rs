//! What the variables of Ansible say of a host in our fields, and what of them is not taken over.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ansible::{Draft, Resolved, Value, Var};
use super::entry::{Desk, Entry, Source, SourceKind};
use super::field::Field;
use super::ini;
use super::mistake::{At, Says, nearest};

/// Variables that hold for Ansible alone; they are left aside without a word.
const OWN: [&str; 9] = [
    "ansible_group_priority",
    "ansible_python_interpreter",
    "ansible_become",
    "ansible_become_method",
    "ansible_become_user",
    "ansible_ssh_pipelining",
    "ansible_ssh_executable",
    "ansible_shell_type",
    "ansible_shell_executable",
];

/// What is not taken over: why, at how many hosts, and the first place.
type Left<'a> = BTreeMap<(&'a str, &'static str), (usize, &'a At)>;

/// The hosts of an inventory, with what is left of it told once for each variable.
pub(super) fn source(draft: &Draft, desk: &mut Desk<'_>) -> Source {
    let resolved = draft.resolve(desk.mistakes, desk.file);
    let mut left: Left<'_> = BTreeMap::new();
    let mut entries = Vec::new();
    for host in &resolved {
        entries.extend(entry(host, &mut left, desk));
    }
    for ((name, why), (hosts, at)) in left {
        let near = nearest(name, desk.names.vars.keys().map(String::as_str));
        let fix = match near {
            Some(near) => format!("write `{near}`, or map it: --var {name}=FIELD"),
            None => format!("map it where it matters: --var {name}=FIELD, or --var {name}=tag:KEY"),
        };
        let s = if hosts == 1 { "" } else { "s" };
        let says = Says(format!("the variable `{name}` of {hosts} host{s} is not taken over"), why, fix);
        match why {
            NO_FIELD => desk.mistakes.note("E0827", at, says),
            _ => desk.mistakes.warn("E0827", at, says),
        }
    }
    Source { file: Arc::clone(desk.file), kind: SourceKind::Ansible, entries }
}

const NO_FIELD: &str = "no field of a host is named by it";
const TEMPLATE: &str = "its value is a template, encrypted or tagged: only Ansible can read it";
const NOT_ONE: &str = "its value is a list or a map, the field takes one value";

fn entry<'a>(host: &Resolved<'a>, left: &mut Left<'a>, desk: &mut Desk<'_>) -> Option<Entry> {
    let mut entry = Entry::new(host.id, host.at.spot.clone(), desk)?;
    let mut leave = |name: &'a str, why: &'static str, var: &'a Var| {
        left.entry((name, why)).or_insert((0, &var.at)).0 += 1;
    };
    for (name, var) in &host.vars {
        let (name, var) = (*name, *var);
        let Some(target) = Target::of(name, desk) else {
            if !OWN.contains(&name) {
                leave(name, NO_FIELD, var);
            }
            continue;
        };
        match (target, &var.value) {
            (_, Value::Unread(_)) => leave(name, TEMPLATE, var),
            (Target::Tags, Value::Tree(tree)) => {
                for (key, value) in tree.entries() {
                    match super::yaml::scalar(value) {
                        Some(text) => put(&mut entry, Field::Tag(key.text.clone()), text, var, desk),
                        None => leave(name, NOT_ONE, var),
                    }
                }
            }
            (_, Value::Tree(_)) => leave(name, NOT_ONE, var),
            (_, Value::Text(text)) if text.is_empty() => {}
            (Target::Tags, Value::Text(_)) => leave(name, "its value is no map of tags", var),
            (Target::Connection, Value::Text(text)) => match text.as_str() {
                "ssh" | "smart" | "paramiko" | "paramiko_ssh" | "ansible.builtin.ssh" => {}
                "local" | "ansible.builtin.local" => put(&mut entry, Field::Connection, "local", var, desk),
                other => {
                    let says = Says(
                        format!("the host {} is left out: it is reached by `{other}`", host.id),
                        "hosts are reached over SSH, or are this machine",
                        "list it in another file with its way, or give it ansible_connection=ssh",
                    );
                    desk.mistakes.warn("E0827", &var.at, says);
                    return None;
                }
            },
            (Target::SshArgs, Value::Text(text)) => {
                let (jump, rest) = ssh_args(text);
                if let Some(jump) = jump {
                    put(&mut entry, Field::Jump, &jump, var, desk);
                }
                if rest {
                    leave(name, "options of ssh other than ProxyJump belong to whoever connects", var);
                }
            }
            (Target::Field(field), Value::Text(text)) => put(&mut entry, field, text, var, desk),
        }
    }
    for group in &host.groups {
        entry.join(group, host.at.spot.clone(), desk);
    }
    entry.fill_from_tags(desk);
    Some(entry)
}

/// Puts a value, with its place in the file that says it.
fn put(entry: &mut Entry, field: Field, value: &str, var: &Var, desk: &mut Desk<'_>) {
    let file = Arc::clone(&var.at.file);
    let mut there = Desk { file: &file, names: desk.names, mistakes: desk.mistakes };
    entry.put(field, value, var.at.spot.clone(), &mut there);
}

enum Target {
    Field(Field),
    Tags,
    Connection,
    SshArgs,
}

impl Target {
    fn of(name: &str, desk: &Desk<'_>) -> Option<Self> {
        // What somebody mapped goes before what we know.
        if let Some(field) = desk.names.vars.get(name) {
            return Field::named(field).map(Self::Field);
        }
        match name {
            "ansible_host" | "ansible_ssh_host" => Some(Self::Field(Field::Host)),
            "ansible_port" | "ansible_ssh_port" => Some(Self::Field(Field::Port)),
            "ansible_user" | "ansible_ssh_user" => Some(Self::Field(Field::User)),
            "ansible_connection" => Some(Self::Connection),
            "ansible_ssh_common_args" | "ansible_ssh_extra_args" | "ansible_ssh_args" => Some(Self::SshArgs),
            "tags" | "patchloom_tags" => Some(Self::Tags),
            _ => None,
        }
    }
}

/// The jump hosts in options of ssh, and whether anything else stands there.
fn ssh_args(args: &str) -> (Option<String>, bool) {
    let Some(words) = ini::words(args) else { return (None, true) };
    let (mut jump, mut rest) = (None, false);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let option = match word.as_str() {
            "-o" => words.next().unwrap_or_default(),
            "-J" => format!("ProxyJump={}", words.next().unwrap_or_default()),
            word => match (word.strip_prefix("-o"), word.strip_prefix("-J")) {
                (Some(option), _) => option.to_owned(),
                (None, Some(hosts)) => format!("ProxyJump={hosts}"),
                (None, None) => word.to_owned(),
            },
        };
        let pair =
            option.split_once(['=', ' ']).map(|(key, value)| (key.trim().to_lowercase(), value.trim().to_owned()));
        match pair {
            Some((key, value)) if key == "proxyjump" && !value.is_empty() => jump = Some(value),
            Some((key, value)) if key == "proxycommand" && proxy(&value).is_some() => jump = proxy(&value),
            Some(_) | None => rest = true,
        }
    }
    (jump, rest)
}

/// The host of `ssh -W %h:%p user@host`, the older way to say ProxyJump.
fn proxy(command: &str) -> Option<String> {
    let words = ini::words(command)?;
    let (first, rest) = words.split_first()?;
    if first != "ssh" || !command.contains("-W %h:%p") && !command.contains("-W [%h]:%p") {
        return None;
    }
    let (mut host, mut port, mut user) = (None, String::new(), String::new());
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        match word.as_str() {
            "-W" => drop(rest.next()),
            "-p" => port = format!(":{}", rest.next()?),
            "-l" => user = format!("{}@", rest.next()?),
            "-q" | "-A" | "-a" | "-x" => {}
            // Another option may change where it goes: better told than guessed.
            word if word.starts_with('-') => return None,
            word if host.is_none() => host = Some(word.to_owned()),
            _ => return None,
        }
    }
    host.map(|host| format!("{user}{host}{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_hosts_are_found_in_options_of_ssh_and_others_are_told() {
        for (args, jump, rest) in [
            ("-o ProxyJump=a@b:22", Some("a@b:22"), false),
            ("-oProxyJump=b -o StrictHostKeyChecking=no", Some("b"), true),
            ("-J a,b", Some("a,b"), false),
            (r#"-o ProxyCommand="ssh -W %h:%p -q -p 2222 user@bastion""#, Some("user@bastion:2222"), false),
            (r#"-o ProxyCommand="nc -x socks %h %p""#, None, true),
            (r#"-o ProxyCommand="ssh -F other -W %h:%p bastion""#, None, true),
            ("-C", None, true),
        ] {
            assert_eq!(ssh_args(args), (jump.map(str::to_owned), rest), "{args}");
        }
    }
}
