//! Plays a script on a place under load, heals everything, and holds what came of it against the ledgers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use patchloom_core::record::Event;
use patchloom_core::wire::Names;
use patchloom_engine::journal::verify;
use patchloom_engine::nats::{Answer, Connection, Lease, NatsOptions, Order};
use patchloom_engine::runtime::inspect;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::client::{Client, entry};
use crate::history::History;
use crate::judge::{Outside, Verdict, judge};
use crate::ledger::{self, Micros, now};
use crate::place::{Place, Size};
use crate::script::{Act, Hardship};
use crate::shapes::Shape;

/// Everything is over by then, on a busy machine too, once everything is healed.
const ENDS_WITHIN: Duration = Duration::from_secs(120);
/// Another engine leads by then.
const LEADS_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What a storm is.
pub struct Plan {
    pub seed: u64,
    pub size: Size,
    pub script: Vec<Act>,
    /// Between the starts of two runs.
    pub every: Duration,
    pub task_ms_max: u64,
}

/// What came of a storm.
#[derive(Default)]
pub struct Outcome {
    pub hits: BTreeMap<Hardship, usize>,
    /// From the blow to the first order that another engine answered, by what the blow was.
    pub failovers: Vec<(Hardship, Duration)>,
    pub runs: usize,
    pub tasks: usize,
    pub records: u64,
    pub terms: usize,
    pub verdict: Verdict,
    /// Engines that ended though nobody asked them to.
    pub ended: Vec<(String, String)>,
}

/// A storm that is going on.
pub struct Storm {
    pub place: Place,
    pub connection: Connection,
    hard: Vec<(Micros, Micros)>,
    pub outcome: Outcome,
}

pub async fn play(plan: Plan) -> Outcome {
    let began = Instant::now();
    let tell = |what: String| println!("[{:6.1} s] {what}", began.elapsed().as_secs_f64());
    println!("seed {}: {} acts", plan.seed, plan.script.len());
    plan.script.iter().for_each(|act| println!("    {act}"));
    let mut storm = Storm::gather(plan.size, plan.task_ms_max).await;
    let client = Client::new(&storm.connection);
    client.register().await;
    tell("the workflows are known".to_owned());
    let stop = CancellationToken::new();
    let load = tokio::spawn(client.clone().load(plan.seed, plan.every, stop.clone()));
    for act in &plan.script {
        storm.rest(act.after).await;
        let from = now();
        let told = storm.suffer(act).await;
        if act.what.delays() {
            storm.suffered(from);
        }
        *storm.outcome.hits.entry(act.what).or_default() += 1;
        tell(format!("{act}{told}"));
    }
    stop.cancel();
    let mut history = History::default();
    let quiet = storm.calm_down(&mut history, load).await;
    tell(format!("{} records, all over: {quiet}", history.seq));
    storm.judge(&history, &client, quiet);
    tell("judged".to_owned());
    storm.outcome
}

impl Storm {
    /// A place, and nothing has happened yet.
    pub async fn gather(size: Size, task_ms_max: u64) -> Self {
        let place = Place::build(size, task_ms_max);
        let connection = Connection::open(NatsOptions::to(&place.url())).await.expect("the servers are there");
        Self { place, connection, hard: Vec::new(), outcome: Outcome::default() }
    }

    /// Lets time pass, and looks after who has ended.
    async fn rest(&mut self, span: Duration) {
        let end = Instant::now() + span;
        while Instant::now() < end {
            sleep(LOOK_EVERY.min(end.saturating_duration_since(Instant::now()))).await;
            self.place.tend();
        }
    }

    /// The engine that leads.
    pub async fn leader(&mut self) -> usize {
        let end = Instant::now() + LEADS_WITHIN;
        loop {
            let holder = Lease::holder_of(&self.connection.jetstream(), "main").await.ok().flatten();
            let holder = holder.map(|holder| holder.leader);
            let at = self.place.engines.iter().position(|engine| Some(&engine.name) == holder.as_ref());
            if let Some(at) = at {
                return at;
            }
            assert!(Instant::now() < end, "nobody leads:\n{}", self.logs());
            self.rest(LOOK_EVERY).await;
        }
    }

    /// Notes that times were hard until now.
    pub fn suffered(&mut self, from: Micros) {
        self.hard.push((from, now()));
    }

    /// One act, to its end; what is to be told of it.
    async fn suffer(&mut self, act: &Act) -> String {
        match act.what {
            what if what.topples() => {
                let at = self.leader().await;
                self.topple(at, act).await
            }
            Hardship::SlowLeader | Hardship::FullLeader => {
                let at = self.leader().await;
                self.burden(at, act).await;
                format!(" ({})", self.place.engines[at].name)
            }
            Hardship::KillWorker => {
                let at = act.which % self.place.workers.len();
                self.place.workers[at].process.kill9();
                sleep(act.lasts).await;
                self.place.workers[at].restart();
                String::new()
            }
            what => {
                self.hurt_nodes(what, act).await;
                String::new()
            }
        }
    }

    /// Has the leader lead no more, and measures how long nobody does.
    async fn topple(&mut self, at: usize, act: &Act) -> String {
        let engine = &mut self.place.engines[at];
        let blow = Instant::now();
        match act.what {
            Hardship::KillLeader => engine.kill(),
            Hardship::PauseLeader => engine.process.pause(),
            Hardship::CutLeader => engine.lines.iter().for_each(patchloom_bed::nats::Proxy::cut),
            Hardship::StallLeader => engine.lines.iter().for_each(patchloom_bed::nats::Proxy::stall),
            _ => engine.lines.iter().for_each(patchloom_bed::nats::Proxy::mute),
        }
        let answered = self.answered(blow).await;
        let took = blow.elapsed();
        if answered {
            self.outcome.failovers.push((act.what, took));
        } else {
            self.outcome.verdict.complaints.push(format!("nobody answered within {LEADS_WITHIN:?} after {act}"));
        }
        sleep(act.lasts.saturating_sub(took)).await;
        let engine = &mut self.place.engines[at];
        match act.what {
            Hardship::KillLeader => engine.restart(),
            Hardship::PauseLeader => engine.process.resume(),
            _ => engine.lines.iter().for_each(patchloom_bed::nats::Proxy::heal),
        }
        format!(" ({}): the next answer came after {} ms", engine.name, took.as_millis())
    }

    /// Whether an order is answered before long; all orders here are sent after `blow`.
    pub async fn answered(&mut self, blow: Instant) -> bool {
        let text = Shape::called("storm-timer").expect("a shape").definition().canonical;
        let order = Order::Submit(vec![entry(Event::DefinitionRegistered { text })]);
        let order: Vec<u8> = serde_json::to_vec(&order).expect("an order has text keys");
        let subject = Names::default().orders("main");
        while blow.elapsed() < LEADS_WITHIN {
            let asked = self.connection.client().request(subject.clone(), order.clone().into());
            if let Ok(Ok(message)) = timeout(Duration::from_millis(300), asked).await
                && matches!(serde_json::from_slice(&message.payload), Ok(Answer::Seen(_)))
            {
                return true;
            }
            self.rest(Duration::from_millis(20)).await;
        }
        false
    }

    /// Makes life hard for the engine that leads.
    async fn burden(&mut self, at: usize, act: &Act) {
        if act.what == Hardship::SlowLeader {
            self.place.engines[at].lines.iter().for_each(|line| line.delay(150));
            sleep(act.lasts).await;
            self.place.engines[at].lines.iter().for_each(|line| line.delay(0));
            return;
        }
        let Some(disk) = &self.place.engines[at].disk else { return };
        disk.fill();
        self.rest(act.lasts).await;
        if let Some(disk) = &self.place.engines[at].disk {
            disk.free();
        }
    }

    async fn hurt_nodes(&mut self, what: Hardship, act: &Act) {
        let count = self.place.nodes.count();
        let which = act.which % count;
        match what {
            Hardship::KillAllNodes => {
                (0..count).for_each(|at| self.place.nodes.at(at).kill9());
                self.rest(act.lasts).await;
                (0..count).for_each(|at| self.place.nodes.at(at).restart_unready());
            }
            Hardship::SlowNode => {
                let end = Instant::now() + act.lasts;
                while Instant::now() < end {
                    self.place.nodes.at(which).stop();
                    sleep(Duration::from_millis(400)).await;
                    self.place.nodes.at(which).cont();
                    sleep(Duration::from_millis(200)).await;
                }
            }
            Hardship::FullNode => {
                let Some(disk) = &self.place.node_disk else { return };
                disk.fill();
                self.rest(act.lasts).await;
                if let Some(disk) = &self.place.node_disk {
                    disk.free();
                }
                // A server whose disk was full keeps JetStream off until it is started again.
                self.place.nodes.at(count - 1).kill9();
                self.place.nodes.at(count - 1).restart_unready();
            }
            _ => {
                self.place.nodes.at(which).kill9();
                self.rest(act.lasts).await;
                self.place.nodes.at(which).restart_unready();
            }
        }
        self.place.nodes.await_ready();
    }

    /// Waits until all is acknowledged and all runs are over, then has all engines stand still with all that is recorded in
    /// their copies; false where that takes too long.
    pub async fn calm_down(&mut self, history: &mut History, load: JoinHandle<()>) -> bool {
        let end = Instant::now() + ENDS_WITHIN;
        while Instant::now() < end {
            self.rest(LOOK_EVERY).await;
            let whole = history.advance(&self.connection.jetstream()).await;
            if whole && load.is_finished() && history.open().is_empty() && self.freeze(history).await {
                return true;
            }
        }
        false
    }

    /// Whether all copies have all that is recorded, with all engines paused; else they go on.
    async fn freeze(&mut self, history: &mut History) -> bool {
        self.place.engines.iter().for_each(|engine| engine.process.pause());
        let seen = history.seq;
        let whole = history.advance(&self.connection.jetstream()).await && history.seq == seen;
        let copied = |engine: &crate::place::Engine| {
            verify(&engine.data().join("journal")).is_ok_and(|report| report.seq_last == Some(seen))
        };
        let frozen = whole && self.place.engines.iter().all(copied);
        if !frozen {
            self.place.engines.iter().for_each(|engine| engine.process.resume());
        }
        frozen
    }

    fn logs(&self) -> String {
        let engines = self.place.engines.iter().map(|engine| {
            let said = engine.process.said();
            let last: Vec<&str> = said.lines().rev().take(40).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            format!("--- {}\n{}\n", engine.name, last.join("\n"))
        });
        engines.collect()
    }

    pub fn judge(&mut self, history: &History, client: &Client, quiet: bool) {
        let acknowledged = client.acknowledged();
        let outside = Outside {
            starts: acknowledged.starts.iter().copied().collect(),
            events: acknowledged.events.iter().cloned().collect(),
            hard: self.hard.clone(),
        };
        let lines = ledger::read(&self.place.ledger());
        let mut verdict = judge(&history.told, &lines, &outside);
        let outcome = &mut self.outcome;
        verdict.complaints.append(&mut outcome.verdict.complaints);
        verdict.complaints.extend(acknowledged.wrong);
        if !quiet {
            verdict.complaints.push(format!("not everything was over {ENDS_WITHIN:?} after all was healed"));
        }
        let state: BTreeMap<String, Vec<u8>> = history.state.rows().collect();
        for engine in &self.place.engines {
            verdict.complaints.extend(same(engine, history, &state));
        }
        outcome.runs = history.told.ends.len();
        outcome.tasks = history.told.done.len();
        outcome.records = history.seq;
        outcome.terms = history.told.terms.len();
        outcome.ended = std::mem::take(&mut self.place.ended);
        outcome.verdict = verdict;
        if !self.outcome.verdict.complaints.is_empty() {
            println!("{}", self.logs());
        }
    }
}

/// What an engine has that is not as the stream has it.
fn same(engine: &crate::place::Engine, history: &History, state: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let name = &engine.name;
    let mut complaints = Vec::new();
    match verify(&engine.data().join("journal")) {
        Ok(report) => {
            complaints.extend(report.problems.iter().map(|problem| format!("{name}: {problem}")));
            if (report.seq_last, report.head_hash) != (Some(history.seq), history.chain) {
                let (seq, hash) = (report.seq_last, report.head_hash);
                let wanted = (history.seq, history.chain);
                complaints.push(format!("{name}: its copy ends at {seq:?} {hash}, the stream at {wanted:?}"));
            }
        }
        Err(error) => complaints.push(format!("{name}: {error}")),
    }
    match inspect(&engine.data()) {
        Ok(inspected) => {
            let rows: BTreeMap<String, Vec<u8>> = inspected.state.rows().collect();
            if rows != *state {
                let differ = rows.iter().filter(|(key, value)| state.get(*key) != Some(value)).count();
                complaints.push(format!("{name}: {differ} rows of its state differ from what the stream folds to"));
            }
        }
        Err(error) => complaints.push(format!("{name}: {error}")),
    }
    complaints
}

impl Outcome {
    /// One line with all counts, and the times to the next answer.
    pub fn summary(&self) -> String {
        let Self { hits, runs, tasks, records, terms, verdict, ended, .. } = self;
        let mut by: BTreeMap<Hardship, Vec<u128>> = BTreeMap::new();
        for (what, took) in &self.failovers {
            by.entry(*what).or_default().push(took.as_millis());
        }
        let times: Vec<String> = by
            .into_iter()
            .map(|(what, mut times)| {
                times.sort_unstable();
                let (first, last) = (times[0], times[times.len() - 1]);
                format!("{what:?} {}×: {first}/{}/{last}", times.len(), times[times.len() / 2])
            })
            .collect();
        format!(
            "{runs} runs, {tasks} tasks in {} executions ({} repeated, {} overtaken, {} given up), {records} records, \
             {terms} terms, {} engines started anew; hardships: {hits:?}; ms to the next answer (min/median/max): {}",
            verdict.executions,
            verdict.repeated,
            verdict.overtaken,
            verdict.given_up,
            ended.len(),
            times.join(", ")
        )
    }

    /// Adds another storm.
    pub fn add(&mut self, other: Self) {
        other.hits.into_iter().for_each(|(what, count)| *self.hits.entry(what).or_default() += count);
        self.failovers.extend(other.failovers);
        self.runs += other.runs;
        self.tasks += other.tasks;
        self.records += other.records;
        self.terms += other.terms;
        self.verdict.complaints.extend(other.verdict.complaints);
        self.verdict.executions += other.verdict.executions;
        self.verdict.repeated += other.verdict.repeated;
        self.verdict.overtaken += other.verdict.overtaken;
        self.verdict.given_up += other.verdict.given_up;
        self.ended.extend(other.ended);
    }
}
