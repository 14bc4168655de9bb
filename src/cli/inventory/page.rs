//! How the inventory looks on a terminal. Decides nothing.

use patchloom_domain::inventory::{Difference, InventoryDiff, Level, Mistakes, What};
use patchloom_domain::{Criticality, Host, Target};
use patchloom_workers::aws::InstanceTag;
use patchloom_workers::inventory::Prepared;
use serde_json::{Value, json};

use crate::output::{Column, Screen, Style, Table, text};

/// So many mistakes and differences are shown; the others are counted.
const SHOWN_MAX: usize = 100;

/// The hosts as a table.
pub(super) fn hosts(hosts: &[Host], screen: Screen) -> String {
    if hosts.is_empty() {
        return "no host\n".to_owned();
    }
    let columns = ["HOST", "VIA", "OS", "ENV", "CRIT", "SITE", "OWNER"].map(Column::new);
    let mut table = Table::new(columns.into_iter().chain([Column::flexible("PATCH GROUP", 8)]).collect());
    for host in hosts {
        let os = host.os.as_ref().map(|os| format!("{} {}", os.id, os.version.as_deref().unwrap_or("")));
        let via = match &host.target {
            Target::Local => "local".to_owned(),
            Target::Root { path } => path.clone(),
            Target::Ssh(ssh) | Target::Windows(ssh) => ssh.to_string(),
            Target::Ssm(ssm) => ssm.to_string(),
        };
        let environment = host.environment.map(|environment| word(&json!(environment)));
        let or = |value: Option<String>| value.map_or_else(|| "-".to_owned(), |value| value.trim().to_owned());
        table.row([
            host.id.clone(),
            via,
            or(os),
            or(environment),
            or(host.criticality.map(Criticality::level).map(|level| level.to_string())),
            or(host.site.clone()),
            or(host.owner.clone()),
            or(host.patch_group().map(str::to_owned)),
        ]);
    }
    format!("{}{}\n", table.render(screen), text::count(hosts.len(), "host", "hosts"))
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), text::plain)
}

/// The mistakes down to a level, the worst first.
pub(super) fn mistakes(mistakes: &Mistakes, least: Level, style: Style) -> String {
    let mut out = String::new();
    let all = || mistakes.list().iter().filter(|mistake| mistake.level <= least);
    for mistake in all().take(SHOWN_MAX) {
        let (level, paint): (&str, fn(Style, &str) -> String) = match mistake.level {
            Level::Error => ("error", Style::red),
            Level::Warning => ("warning", Style::yellow),
            Level::Note => ("note", Style::cyan),
        };
        let level = paint(style, &format!("{level}[{}]:", mistake.code));
        out.push_str(&format!("{level} {}\n", text::plain(&mistake.message)));
        out.push_str(&format!("  --> {}\n", text::plain(&mistake.at)));
        out.push_str(&format!(
            "  = reason: {}\n  = fix: {}\n",
            text::plain(&mistake.reason),
            text::plain(&mistake.fix)
        ));
    }
    let rest = all().count().saturating_sub(SHOWN_MAX);
    if rest > 0 {
        out.push_str(&format!("... and {rest} more; --json has all of them\n"));
    }
    out
}

/// What differs: `+` is new, `-` is gone, `~` changed.
pub(super) fn diff(diff: &InventoryDiff, style: Style) -> String {
    let mut out = String::new();
    for (kind, rows) in
        [("host", &diff.hosts), ("group", &diff.groups), ("schedule", &diff.schedules), ("calendar", &diff.calendars)]
    {
        rows.iter().take(SHOWN_MAX).for_each(|row| out.push_str(&difference(kind, row, style)));
        if rows.len() > SHOWN_MAX {
            out.push_str(&format!("... and {} more {kind}s; --json has all of them\n", rows.len() - SHOWN_MAX));
        }
    }
    if diff.is_empty() { "nothing differs\n".to_owned() } else { out }
}

fn difference(kind: &str, row: &Difference, style: Style) -> String {
    let name = text::plain(&row.name);
    match row.what {
        What::Created => style.green(&format!("+ {kind} {name}")) + "\n",
        What::Gone => style.red(&format!("- {kind} {name}")) + "\n",
        What::Updated | What::Emptied => {
            let emptied = if row.what == What::Emptied { " (no host is left)" } else { "" };
            let mut out = style.yellow(&format!("~ {kind} {name}{emptied}")) + "\n";
            for field in &row.fields {
                out.push_str(&format!(
                    "    {}: {} -> {}\n",
                    text::plain(&field.field),
                    value(&field.was),
                    value(&field.now)
                ));
            }
            out
        }
    }
}

/// A value in a few words: long lists are counted.
fn value(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(items) if items.len() > 5 => text::count(items.len(), "entry", "entries"),
        other => text::plain(&other.to_string()),
    }
}

/// The tags that instances get: `~` changes one.
pub(super) fn tags(tags: &[InstanceTag], written: bool, style: Style) -> String {
    let mut out = String::new();
    for tag in tags.iter().take(SHOWN_MAX) {
        let was = tag.was.as_deref().map_or_else(|| "nothing".to_owned(), |was| format!("{was:?}"));
        let line = format!("~ tag {:?} of {}: {was} -> {:?}", tag.key, tag.instance, tag.value);
        out.push_str(&(style.yellow(&text::plain(&line)) + "\n"));
    }
    if tags.len() > SHOWN_MAX {
        out.push_str(&format!("... and {} more tags; --json has all of them\n", tags.len() - SHOWN_MAX));
    }
    match (tags.len(), written) {
        (0, _) => {}
        (some, true) => out.push_str(&format!("{} written to EC2\n", text::count(some, "tag", "tags"))),
        (some, false) => out.push_str(&format!("{} to be written with --apply\n", text::count(some, "tag", "tags"))),
    }
    out
}

/// The last line.
pub(super) fn counts(prepared: &Prepared) -> String {
    let hosts = text::count(prepared.desired.hosts.len(), "host", "hosts");
    let groups = text::count(prepared.desired.groups.len(), "group", "groups");
    let schedules = text::count(prepared.desired.schedules.len(), "schedule", "schedules");
    let (errors, warnings) = (prepared.count(Level::Error), prepared.count(Level::Warning));
    let wrong = format!("{}, {}", text::count(errors, "error", "errors"), text::count(warnings, "warning", "warnings"));
    let notes = text::count(prepared.count(Level::Note), "note", "notes");
    let tags = match prepared.tag_patches.len() {
        0 => String::new(),
        some => format!("; {} to write back", text::count(some, "tag", "tags")),
    };
    format!("{hosts}, {groups}, {schedules}; {wrong}, {notes}{tags}\n")
}
