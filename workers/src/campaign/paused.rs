//! `campaign.paused`: what was paused, whom that kept away, and who is tried first once it is mended.

use patchloom_core::Failure;
use patchloom_domain::{Command, Roster};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::artifact::ArtifactId;
use crate::changes::{Desk, input};
use crate::runtime::{BoxFuture, Handler, TaskContext};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    change: String,
    roster: ArtifactId,
    waves: Vec<Wave>,
}

#[derive(Deserialize)]
struct Wave {
    hosts: Vec<Value>,
}

/// `campaign.paused`: finds out what was paused, says on the change who waits for it, and puts them into two waves: of each
/// paused scope one host, then the others.
///
/// # Shape
/// In: `{change, roster, waves}`. Out: `{count, pardon, scopes: [{scope, host, target, until}], waves: [{name, soak_ms, hosts}]}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Paused;

impl Handler for Paused {
    fn uses(&self) -> &'static str {
        "campaign.paused"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let asked: Input = input(value)?;
            let roster: Roster = context.get_json(&asked.roster).await?;
            let desk = Desk::open(context)?;
            let pardon = roster.paused(&desk.get(&asked.change)?);
            let rows: Vec<&Value> = asked.waves.iter().flat_map(|wave| &wave.hosts).collect();
            let row = |host: &str| rows.iter().copied().find(|row| row["id"] == host);
            let (mut first, mut others, mut scopes) = (Vec::new(), Vec::new(), Vec::new());
            for paused in &pardon.scopes {
                let text = format!(
                    "Paused: {}. {} wait for it: {}. {} is tried first, should it come back in time.",
                    paused.scope,
                    paused.hosts.len(),
                    paused.hosts.join(", "),
                    paused.tried,
                );
                let key = format!("paused/{}/{}", context.key().run, paused.scope);
                desk.order(&asked.change, Command::Note { text, key })?;
                first.extend(row(&paused.tried));
                others.extend(paused.hosts.iter().filter(|host| **host != paused.tried).filter_map(|host| row(host)));
                scopes.push(json!({
                    "scope": paused.scope.to_string(),
                    "host": paused.tried,
                    "target": row(&paused.tried).map(|row| row["target"].clone()),
                    "until": paused.until.0,
                }));
            }
            let wave = |name: &str, hosts: Vec<&Value>| json!({ "name": name, "soak_ms": 0, "hosts": hosts });
            let waves = [("tried first", first), ("resumed", others)];
            let waves = waves.into_iter().filter(|(_, hosts)| !hosts.is_empty());
            Ok(json!({
                "count": pardon.scopes.len(),
                "pardon": context.put_json(&pardon).await?,
                "scopes": scopes,
                "waves": waves.map(|(name, hosts)| wave(name, hosts)).collect::<Vec<_>>(),
            }))
        })
    }
}
