//! Who is lent what: the accounts of the servers' configuration.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use patchloom_core::QueueName;
use patchloom_core::wire::Names;

use super::Setup;

/// The account of the engines, which has the streams.
const ENGINES: &str = "PATCHLOOM";
/// Where servers tell how they keep streams; an engine asks, to know what an acknowledgement is worth.
const FLUSHING: &str = "$SYS.REQ.SERVER.PING.JSZ";

/// A subject that accounts are lent.
struct Loan {
    kind: &'static str,
    subject: String,
    /// Further words of the export.
    more: &'static str,
    to: Vec<String>,
}

/// The accounts as text. `key` gives the public key of the user with a name.
pub(super) fn render(setup: &Setup, key: &mut impl FnMut(&str) -> Result<String>) -> Result<String> {
    let loans = loans(setup);
    let mut text = "# Made by `patchloom nats setup`: an account sees nothing of another but what it is lent.\n\
                    system_account: SYS\naccounts {\n"
        .to_owned();
    let system = Loan {
        kind: "service",
        subject: FLUSHING.to_owned(),
        more: ", response_type: stream",
        to: vec![ENGINES.to_owned()],
    };
    account(&mut text, "SYS", &[("system", key("system")?)], &[], &export(&[&system]), &[]);
    let users = [("engine", key("engine")?), ("operator", key("operator")?)];
    let from_system = [import("SYS", &system)];
    account(
        &mut text,
        ENGINES,
        &users,
        &["jetstream: enabled"],
        &export(&loans.iter().collect::<Vec<_>>()),
        &from_system,
    );
    for (name, user) in others(setup) {
        let imports: Vec<String> =
            loans.iter().filter(|loan| loan.to.contains(&name)).map(|loan| import(ENGINES, loan)).collect();
        account(&mut text, &name, &[(&user, key(&user)?)], &[], &[], &imports);
    }
    text += "}\n";
    Ok(text)
}

/// The accounts beside the engines', each with the name of its user.
fn others(setup: &Setup) -> Vec<(String, String)> {
    let one = |kind: &str, name: &dyn std::fmt::Display| (account_of(kind, name), format!("{kind}-{name}"));
    let sites = setup.sites.iter().map(|site| one("site", &site.name));
    let scanners = setup.scanners.iter().map(|name| one("scanner", name));
    let listeners = setup.listeners.iter().map(|name| one("listener", name));
    sites.chain(scanners).chain(listeners).collect()
}

fn account_of(kind: &str, name: &dyn std::fmt::Display) -> String {
    format!("{kind}_{name}").to_uppercase().replace('-', "_")
}

fn loans(setup: &Setup) -> Vec<Loan> {
    let names = Names::default();
    let mut by_queue: BTreeMap<&QueueName, Vec<String>> = BTreeMap::new();
    for site in &setup.sites {
        for queue in &site.queues {
            by_queue.entry(queue).or_default().push(account_of("site", &site.name));
        }
    }
    let mut loans = Vec::new();
    let mut lend = |kind, subject, more, to: &Vec<String>| loans.push(Loan { kind, subject, more, to: to.clone() });
    for (queue, sites) in &by_queue {
        lend("service", names.want(Some(queue)), "", sites);
        lend("service", names.work_of(queue), "", sites);
        // A pull is answered by many tickets.
        lend("service", names.pull(queue), ", response_type: stream", sites);
        lend("service", names.acknowledgements(queue), "", sites);
    }
    for scanner in &setup.scanners {
        let to = vec![account_of("scanner", scanner)];
        let subject = names.event_in(&setup.partition, &scanner.to_string());
        lend("service", format!("{subject}.>"), "", &to);
        lend("service", subject, "", &to);
    }
    let listeners: Vec<String> = setup.listeners.iter().map(|name| account_of("listener", name)).collect();
    if !listeners.is_empty() {
        lend("stream", names.all_events_out(), "", &listeners);
    }
    loans
}

fn export(loans: &[&Loan]) -> Vec<String> {
    let one = |loan: &&Loan| {
        let Loan { kind, subject, more, to } = loan;
        format!("{{ {kind}: \"{subject}\"{more}, accounts: [{}] }}", to.join(", "))
    };
    loans.iter().map(one).collect()
}

fn import(from: &str, loan: &Loan) -> String {
    format!("{{ {}: {{ account: {from}, subject: \"{}\" }} }}", loan.kind, loan.subject)
}

fn account(
    text: &mut String,
    name: &str,
    users: &[(&str, String)],
    more: &[&str],
    exports: &[String],
    imports: &[String],
) {
    let users: Vec<String> = users.iter().map(|(who, key)| format!("{{ nkey: {key} }} # {who}")).collect();
    let block = |what: &str, lines: &[String]| {
        if lines.is_empty() {
            return String::new();
        }
        format!("    {what}: [\n      {}\n    ]\n", lines.join("\n      "))
    };
    let more: String = more.iter().map(|line| format!("    {line}\n")).collect();
    let body = [block("users", &users), more, block("exports", exports), block("imports", imports)].concat();
    // Writing to a text cannot fail.
    let _ = writeln!(text, "  {name} {{\n{body}  }}");
}
