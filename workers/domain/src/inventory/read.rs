//! Reading a file of hosts, whatever its format: which one it is shows its content. Does no IO: texts are arguments.

use std::sync::Arc;

use serde_json::Value;

use super::ansible::{self, Draft, Var};
use super::entry::{Desk, Names, Source};
use super::mistake::{At, Mistakes, Says, Spot};
use super::{ansible_vars, aws, csv, ini, tree, yaml};

/// A text may have so many bytes: a hundred thousand hosts have some tens of millions.
pub const TEXT_BYTES_MAX: usize = 512 << 20;

/// A file, or the files of a directory that is one Ansible inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// The file itself; of a directory all its files.
    pub main: Vec<Text>,
    /// What lies beside it for Ansible: files of `group_vars` and `host_vars`.
    pub beside: Vec<(Scope, Text)>,
}

/// A file: its name as people know it, and its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its name.
    pub name: String,
    /// Its content.
    pub text: String,
}

/// Whose variables a file holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// A group's: `group_vars/NAME`.
    Group(String),
    /// A host's: `host_vars/NAME`.
    Host(String),
}

/// A document, by its format.
enum Document {
    Aws(Vec<Value>),
    Csv,
    Ini,
    AnsibleYaml(tree::Node),
    Yaml(tree::Node),
}

/// Reads the hosts of one source. What is wrong goes to `mistakes`; what is right is returned all the same.
#[must_use]
pub fn read(texts: &Texts, names: &Names, mistakes: &mut Mistakes) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut draft: Option<(Draft, Arc<str>)> = None;
    for text in &texts.main {
        let file: Arc<str> = Arc::from(text.name.as_str());
        let mut desk = Desk { file: &file, names, mistakes };
        let Some(document) = recognise(&text.text, &mut desk) else { continue };
        match document {
            Document::Aws(documents) => {
                for (index, document) in documents.iter().enumerate() {
                    sources.extend(aws::read(document, index, &mut desk));
                }
            }
            Document::Csv => sources.push(csv::read(&text.text, &mut desk)),
            Document::Yaml(root) => sources.push(yaml::read(&root, &mut desk)),
            Document::Ini => {
                let (draft, _) = draft.get_or_insert_with(|| (Draft::default(), file.clone()));
                ini::read(&text.text, draft, &mut desk);
            }
            Document::AnsibleYaml(root) => {
                let (draft, _) = draft.get_or_insert_with(|| (Draft::default(), file.clone()));
                ansible::read_yaml(&root, draft, &mut desk);
            }
        }
    }
    if let Some((mut draft, file)) = draft {
        for (scope, text) in &texts.beside {
            beside(scope, text, &mut draft, (names, mistakes));
        }
        sources.push(ansible_vars::source(&draft, &mut Desk { file: &file, names, mistakes }));
    }
    sources
}

/// Lays the variables of a file of `group_vars` or `host_vars` over the inventory.
fn beside(scope: &Scope, text: &Text, draft: &mut Draft, (names, mistakes): (&Names, &mut Mistakes)) {
    let file: Arc<str> = Arc::from(text.name.as_str());
    if text.text.starts_with("$ANSIBLE_VAULT") {
        let at = At { file, spot: Spot::Line(1) };
        let says =
            Says("this file is encrypted", "its variables are not taken over", "say what matters in another file");
        return mistakes.warn("E0827", &at, says);
    }
    // A file of nothing but comments, or an empty one, is usual here.
    if text.text.lines().all(|line| matches!(line.trim(), "" | "---") || line.trim().starts_with('#')) {
        return;
    }
    let Some(root) = tree::read(&file, &text.text, mistakes) else { return };
    let mut desk = Desk { file: &file, names, mistakes };
    if !yaml::map(&root, "a file of variables", &mut desk) {
        return;
    }
    let vars = root.entries().iter().map(|(key, node)| (key.text.clone(), Var::node(node, &file)));
    let place = match scope {
        Scope::Group(group) => draft.groups.get_mut(group).map(|group| &mut group.outer),
        Scope::Host(host) => draft.hosts.get_mut(host).map(|host| &mut host.outer),
    };
    match (place, scope) {
        (Some(outer), _) => outer.extend(vars),
        // Variables of all hosts hold without a word of `all` in the inventory.
        (None, Scope::Group(group)) if group == "all" || group == "ungrouped" => draft.group(group).outer.extend(vars),
        (None, Scope::Group(name) | Scope::Host(name)) => {
            let says = Says(
                format!("nothing in the inventory is called `{name}`"),
                "the variables in this file hold for nobody",
                "rename or remove the file",
            );
            desk.mistakes.warn("E0827", &At { file: file.clone(), spot: Spot::Line(1) }, says);
        }
    }
}

fn recognise(text: &str, desk: &mut Desk<'_>) -> Option<Document> {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let first = desk.line(1);
    if text.len() > TEXT_BYTES_MAX {
        let says = Says(
            format!("the file has {} bytes", text.len()),
            format!("at most {TEXT_BYTES_MAX} are read"),
            "split it",
        );
        desk.mistakes.error("E0818", &first, says);
        return None;
    }
    if start.starts_with("#!") {
        let fix = "let Ansible write it out: ansible-inventory -i THIS --list --yaml > hosts.yaml";
        desk.mistakes.error(
            "E0815",
            &first,
            Says("this is a program that prints an inventory", "nothing is run here", fix),
        );
        return None;
    }
    if start.starts_with('{') || start.starts_with('[') && !ini::is(text) {
        match documents(start) {
            Ok(documents) if !documents.is_empty() && documents.iter().all(aws::is) => {
                return Some(Document::Aws(documents));
            }
            // JSON is YAML too: our own format may be written so.
            Ok(_) => {}
            Err(error) if start.starts_with('{') => {
                let at = desk.line(u32::try_from(error.line()).unwrap_or(u32::MAX));
                let says = Says(
                    format!("this is not JSON: {error}"),
                    "what begins with { is read as JSON",
                    "paste the whole answer",
                );
                desk.mistakes.error("E0810", &at, says);
                return None;
            }
            Err(_) => {}
        }
    }
    if ini::is(text) {
        return Some(Document::Ini);
    }
    if csv::is(text) {
        return Some(Document::Csv);
    }
    let root = tree::read(desk.file, text, desk.mistakes)?;
    if yaml::is(&root) {
        return Some(Document::Yaml(root));
    }
    if ansible::is(&root) {
        return Some(Document::AnsibleYaml(root));
    }
    let json = root.to_json();
    if aws::is(&json) {
        return Some(Document::Aws(vec![json]));
    }
    // Lines of hosts without any section read as one text in YAML.
    if yaml::scalar(&root).is_some() {
        return Some(Document::Ini);
    }
    nobody_knows(desk);
    None
}

fn nobody_knows(desk: &mut Desk<'_>) {
    let first = desk.line(1);
    let says = Says(
        "nobody knows what this file is",
        "read are our own YAML (`inventory: 1`), CSV with a column id, Ansible inventories (INI, YAML), and answers of the AWS \
         command line: ssm describe-instance-information, list-inventory-entries and get-inventory, ec2 describe-instances and \
         describe-tags",
        "begin our own format with `inventory: 1`; see docs/inventory.md",
    );
    desk.mistakes.error("E0815", &first, says);
}

/// JSON documents, one after the other: what several calls printed into one file.
fn documents(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    serde_json::Deserializer::from_str(text).into_iter().collect()
}
