//! `campaign.wave`: a wave is over. What came of it goes on the change.

use patchloom_core::Failure;
use patchloom_domain::{Command, HostOutcome};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::changes::{Desk, input};
use crate::runtime::{BoxFuture, Handler, TaskContext};

/// Hosts that a note names.
const NAMED_MAX: usize = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    change: String,
    wave: String,
    hosts: Vec<String>,
    #[serde(default)]
    soak_ms: u64,
}

/// `campaign.wave`: says on the change what came of a wave, and until when it is watched before the next one begins.
///
/// # Shape
/// In: `{change, wave, hosts, soak_ms?}`. Out: `{wave, hosts, good, until}`; `until` in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub struct WaveOver;

impl Handler for WaveOver {
    fn uses(&self) -> &'static str {
        "campaign.wave"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let Input { change: number, wave, hosts, soak_ms } = input(value)?;
            let desk = Desk::open(context)?;
            let change = desk.get(&number)?;
            let outcome = |host: &str| change.tasks.get(host).and_then(|task| task.outcome.as_ref());
            let bad: Vec<&str> = hosts
                .iter()
                .map(String::as_str)
                .filter(|host| !outcome(host).is_some_and(HostOutcome::is_success))
                .collect();
            let good = hosts.len() - bad.len();
            let mut text = format!("Wave {wave}: {good} of {} hosts came through.", hosts.len());
            for host in bad.iter().take(NAMED_MAX) {
                let what = outcome(host).map_or_else(|| "no outcome".to_owned(), ToString::to_string);
                text.push_str(&format!("\n{host}: {what}"));
            }
            if bad.len() > NAMED_MAX {
                text.push_str(&format!("\nand {} more", bad.len() - NAMED_MAX));
            }
            // A wave of nobody is nothing to read about.
            if !hosts.is_empty() {
                let key = format!("wave/{}/{wave}", context.key().run);
                desk.order(&number, Command::Note { text, key })?;
            }
            let until = desk.now().plus(soak_ms).0;
            Ok(json!({ "wave": wave, "hosts": hosts.len(), "good": good, "until": until }))
        })
    }
}
