//! `patchloom change list` and `show`.

use std::collections::BTreeSet;

use patchloom_core::UtcMs;
use patchloom_domain::{ChangeRequest, ChangeState, CloseCode, Decision, Instant};

use super::{ChangeListArgs, ChangeShowArgs, fault, register, select};
use crate::cli::Context;
use crate::fault::{Exit, Fault};
use crate::output::{Column, Screen, Style, Table, text, time};

pub(super) fn list(args: &ChangeListArgs, context: &Context) -> Result<Exit, Fault> {
    let listing = register(context)?.list().map_err(fault)?;
    for damaged in &listing.damaged {
        eprintln!("{} {}", context.talk.style.yellow("note:"), text::plain(&damaged.to_string()));
    }
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let open = |change: &&ChangeRequest| !args.open || !change.state.is_final();
    let changes: Vec<&ChangeRequest> = listing.changes.iter().rev().filter(open).take(limit).collect();
    if args.json {
        context.print_json(&changes)?;
    } else if changes.is_empty() {
        eprintln!("No such change.");
    } else {
        context.print(&table(&changes, context.out))?;
    }
    Ok(Exit::Ok)
}

fn at(instant: Instant) -> String {
    time::local(UtcMs(instant.0))
}

fn state(change: &ChangeRequest) -> String {
    change.closure.as_ref().map_or_else(|| change.state.to_string(), |end| format!("{} {}", change.state, end.code))
}

fn paint(change: &ChangeRequest) -> fn(Style, &str) -> String {
    match (change.state, change.closure.as_ref().map(|closure| closure.code)) {
        (_, Some(CloseCode::Successful)) => Style::green,
        (_, Some(CloseCode::SuccessfulIssues)) => Style::yellow,
        (_, Some(CloseCode::Unsuccessful)) => Style::red,
        (ChangeState::Canceled, None) => Style::dim,
        (_, None) => Style::cyan,
    }
}

fn table(changes: &[&ChangeRequest], screen: Screen) -> String {
    let mut table = Table::new(vec![
        Column::new("CHANGE"),
        Column::new("STATE"),
        Column::new("OPENED"),
        Column::flexible("HOSTS", 10),
        Column::flexible("TITLE", 20),
    ]);
    for change in changes {
        let hosts = change.draft.hosts.join(", ");
        table.row([change.number.clone(), state(change), at(change.opened), hosts, change.draft.title.clone()]);
        table.paint(1, paint(change));
    }
    table.render(screen)
}

pub(super) fn show(args: &ChangeShowArgs, context: &Context) -> Result<Exit, Fault> {
    let register = register(context)?;
    let change = select(&register, &args.change)?;
    if args.json {
        context.print_json(&change)?;
    } else {
        let mut out = page(&change, context.out.style);
        if change.state == ChangeState::Authorize || change.state == ChangeState::New {
            let (number, digest) = (&change.number, &change.draft.digest);
            out.push_str(&format!("\n  decide: patchloom change approve {number} --plan {digest}\n"));
        }
        context.print(&out)?;
    }
    Ok(Exit::Ok)
}

fn page(change: &ChangeRequest, style: Style) -> String {
    let draft = &change.draft;
    let mut out = format!("{} {}\n", style.bold(&change.number), paint(change)(style, &state(change)));
    let mut line = |name: &str, value: String| out.push_str(&format!("  {name:<10} {}\n", text::plain(&value)));
    line("title", draft.title.clone());
    line("kind", format!("{:?}, {:?}", draft.kind, draft.mode).to_lowercase());
    line("requester", draft.requester.to_string());
    line("hosts", draft.hosts.join(", "));
    line("plan", draft.digest.to_string());
    line("window", format!("{} to {}", at(draft.window.start), at(draft.window.end)));
    line("risk", draft.risk.clone());
    line("asked by", change.correlation_id.clone());
    if let Some(why) = &change.canceled_why {
        line("canceled", why.clone());
    }
    if let Some(closure) = &change.closure {
        line("closed", format!("{} by {}: {}", at(closure.at), closure.by, closure.notes));
    }
    for (title, body) in
        [("plan", &draft.implementation_plan), ("way back", &draft.backout_plan), ("tests", &draft.test_plan)]
    {
        let body = text::lines(body.trim_end()).replace('\n', "\n    ");
        out.push_str(&format!("\n  {}\n    {body}\n", style.bold(title)));
    }
    section("decisions", decisions(change), style, &mut out);
    section(
        "work notes",
        change.notes.iter().map(|note| format!("{} {}: {}", at(note.at), note.by, note.text)).collect(),
        style,
        &mut out,
    );
    let steps = change.history.iter().map(|step| format!("{} {} by {}", at(step.at), step.to, step.by));
    section("states", steps.collect(), style, &mut out);
    out
}

fn decisions(change: &ChangeRequest) -> Vec<String> {
    let tell = |approval: &patchloom_domain::Approval| {
        let word = match approval.decision {
            Decision::Approved => "approved",
            Decision::Rejected => "rejected",
        };
        let void = approval.void.as_ref().map(|why| format!(" (void: {why})")).unwrap_or_default();
        let comment = approval.comment.as_ref().map(|comment| format!(": {comment}")).unwrap_or_default();
        format!("{} {} {word} {}{comment}{void}", at(approval.at), approval.by, approval.digest)
    };
    // A repeated line says nothing new.
    let mut seen = BTreeSet::new();
    change.approvals.iter().map(tell).filter(|line| seen.insert(line.clone())).collect()
}

fn section(title: &str, lines: Vec<String>, style: Style, out: &mut String) {
    if lines.is_empty() {
        return;
    }
    out.push_str(&format!("\n  {}\n", style.bold(title)));
    for line in lines {
        out.push_str(&format!("    {}\n", text::plain(&line)));
    }
}
