//! `docs/asyncapi.yaml` says what the code tells: the same types, and schemas that all events of real code fit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use patchloom::host::event_types;
use patchloom_bed::{Repository, Root, left_out};
use patchloom_core::record::{Batch, SEMANTICS};
use patchloom_core::run::{EVENT_TYPES, Fact, FactKind};
use patchloom_core::{CloudEvent, Leg, Partition, RunId, TaskKey, UtcMs, yaml};
use patchloom_domain::{Actor, Command as Order, Instant, Order as By};
use patchloom_engine::events::{Wanted, of_facts};
use patchloom_engine::journal::{EmbeddedJournal, Journal as _, Options, RecordReader as _};
use patchloom_workers::changes::{Authorize, Close, Fail, Implement, MakePlan, Note, Open};
use patchloom_workers::register::Register;
use patchloom_workers::runtime::{DataDir, Handler, TaskContext};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const SOURCE: &str = "/patchloom/5f2e7f4c-9a0e-4c5b-8d0f-3f3a1f0f5f11";

/// The document, and a validator for each type.
struct Spec {
    document: Value,
    validators: BTreeMap<String, jsonschema::Validator>,
}

impl Spec {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/asyncapi.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        let document = yaml::read(&text).unwrap().to_json();
        let mut validators = BTreeMap::new();
        for message in document["components"]["messages"].as_object().unwrap().values() {
            let mut schema = message["payload"].clone();
            schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
            schema["components"] = json!({ "schemas": document["components"]["schemas"] });
            let validator = jsonschema::options().should_validate_formats(true).build(&schema);
            let name = message["name"].as_str().unwrap().to_owned();
            let validator = validator.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(validators.insert(name.clone(), validator).is_none(), "{name} is there twice");
        }
        Self { document, validators }
    }

    #[track_caller]
    fn holds(&self, event: &CloudEvent) {
        let value = serde_json::to_value(event).unwrap();
        let validator = self.validators.get(&event.kind);
        let validator = validator.unwrap_or_else(|| panic!("docs/asyncapi.yaml does not know {value:#}"));
        let wrong: Vec<String> =
            validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{}: {value:#}", wrong.join("\n"));
        assert_eq!(CloudEvent::read(&value.to_string()).as_ref(), Ok(event), "it reads back");
    }
}

#[test]
fn the_document_names_each_type_that_is_told_and_no_other() {
    let spec = Spec::read();
    assert_eq!(spec.document["asyncapi"], "3.0.0");
    let known: BTreeSet<&str> = spec.validators.keys().map(String::as_str).filter(|name| *name != "any").collect();
    let told: BTreeSet<&str> = event_types().into_iter().collect();
    assert_eq!(known, told);
    assert!(told.len() > EVENT_TYPES.len());
    let messages = spec.document["components"]["messages"].as_object().unwrap();
    let out = spec.document["channels"]["eventsOut"]["messages"].as_object().unwrap();
    let names: BTreeSet<&String> = messages.keys().filter(|name| *name != "Any").collect();
    assert_eq!(out.keys().collect::<BTreeSet<_>>(), names, "all of them go out");
    check_references(&spec.document, &spec.document);
}

/// Every `$ref` leads somewhere.
fn check_references(document: &Value, at: &Value) {
    match at {
        Value::Object(map) => {
            if let Some(target) = map.get("$ref") {
                let target = target.as_str().unwrap();
                let place = target.strip_prefix('#').unwrap();
                assert!(document.pointer(place).is_some(), "{target} leads nowhere");
            }
            map.values().for_each(|value| check_references(document, value));
        }
        Value::Array(list) => list.iter().for_each(|value| check_references(document, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn each_example_is_an_event_that_its_schema_and_the_specification_take() {
    let spec = Spec::read();
    for message in spec.document["components"]["messages"].as_object().unwrap().values() {
        let name = message["name"].as_str().unwrap();
        let examples = message["examples"].as_array().unwrap();
        assert!(!examples.is_empty(), "{name} has no example");
        for example in examples {
            let event = CloudEvent::read(&example["payload"].to_string()).unwrap();
            match name {
                "any" => assert!(spec.validators["any"].is_valid(&example["payload"])),
                _ => spec.holds(&event),
            }
        }
    }
}

#[test]
fn a_schema_takes_no_other_data() {
    let spec = Spec::read();
    for message in spec.document["components"]["messages"].as_object().unwrap().values() {
        let name = message["name"].as_str().unwrap();
        if name == "any" {
            continue;
        }
        let good = &message["examples"][0]["payload"];
        let (mut more, mut less, mut other) = (good.clone(), good.clone(), good.clone());
        more["data"]["surprise"] = json!(1);
        let first = message["payload"]["properties"]["data"]["required"][0].as_str().unwrap();
        less["data"].as_object_mut().unwrap().remove(first);
        other["type"] = json!("patchloom.other");
        for bad in [more, less, other] {
            assert!(!spec.validators[name].is_valid(&bad), "{name} takes {bad}");
        }
    }
}

#[test]
fn every_fact_of_the_engine_fits_its_schema() {
    let spec = Spec::read();
    let run = RunId(uuid::Uuid::now_v7());
    for kind in EVENT_TYPES {
        let mut parts = kind.split('.').skip(1);
        let (family, what) = (parts.next().unwrap(), parts.next().unwrap());
        let fact = match family {
            "run" => FactKind::Phase(what),
            "step" => FactKind::Step("s".into(), what),
            "undo" => FactKind::Undo("s".into(), what),
            "wave" => FactKind::Wave("s".into(), 3, what),
            "schedule" => FactKind::Missed { workflow: "w".into(), nominal: UtcMs(1), why: "nobody was there" },
            other => panic!("{other}"),
        };
        let events = of_facts(SOURCE, 7, UtcMs(1_763_700_000_000), &[Fact { run, kind: fact }], Wanted::All);
        assert_eq!(events[0].kind, kind);
        spec.holds(&events[0]);
    }
}

/// What a task told, as the events that it becomes.
fn told(context: &TaskContext) -> Vec<CloudEvent> {
    let (fits, reasons) = patchloom_core::Told::fitting(context.told());
    assert_eq!(reasons, Vec::<String>::new());
    let key = context.key();
    let fact = |told| {
        let kind = FactKind::Told { step: key.step.clone(), item: key.item, told: Box::new(told) };
        Fact { run: key.run, kind }
    };
    of_facts(SOURCE, 1, UtcMs(1_763_700_000_000), &fits.into_iter().map(fact).collect::<Vec<_>>(), Wanted::All)
}

/// The handlers of change requests on a register of their own; gives the types that were told.
struct Office<'a> {
    spec: &'a Spec,
    dir: tempfile::TempDir,
    kinds: Vec<String>,
}

impl Office<'_> {
    async fn has(&mut self, handler: impl Handler, step: &str, input: Value) -> Result<Value, String> {
        let run = RunId("018f0000-0000-7000-8000-000000000001".parse().unwrap());
        let key = TaskKey { run, step: step.into(), item: 0, attempt: 1, leg: Leg::Forward };
        let data = DataDir::new(self.dir.path());
        let (context, _) = TaskContext::new(key, 0, CancellationToken::new(), data);
        let done = handler.run(&context, input).await;
        for event in told(&context) {
            self.spec.holds(&event);
            self.kinds.push(event.kind);
        }
        done.map_err(|failure| failure.code)
    }

    async fn opened(&mut self, candidate: &str) -> Value {
        let patch = json!({
            "name": "jq", "arch": "amd64", "installed": "1", "candidate": candidate, "source": "jq",
            "source_version": "2", "origin": "Debian", "security": true, "sha256": null, "size_bytes": null, "cves": [],
        });
        let missing = DataDir::new(self.dir.path()).artifacts().put_json(&json!({ "patches": [patch] })).unwrap();
        let input = json!({ "target": {"kind": "local"}, "host": "web-1", "mode": "apply", "missing": missing });
        let plan = self.has(MakePlan, "plan", input).await.unwrap();
        let opened = self.has(Open, "open", json!({ "plan": plan["artifact"] })).await.unwrap();
        json!({ "change": opened["number"] })
    }

    fn order(&self, command: Order) {
        let register = Register::open(&DataDir::new(self.dir.path()).changes()).unwrap();
        let order = By { by: Actor::Person("ann".to_owned()), at: Instant(5), command };
        register.apply("CHG0000001", &order).unwrap();
    }
}

#[tokio::test]
async fn what_the_tasks_of_a_change_tell_fits() {
    let spec = Spec::read();
    let office = || Office { spec: &spec, dir: tempfile::tempdir().unwrap(), kinds: Vec::new() };
    let mut good = office();
    let change = good.opened("2").await;
    let register = Register::open(&DataDir::new(good.dir.path()).changes()).unwrap();
    let digest = register.get("CHG0000001").unwrap().draft.digest;
    good.order(Order::Approve { digest, comment: None });
    good.has(Authorize, "authorize", change.clone()).await.unwrap();
    good.has(Implement, "implement", change.clone()).await.unwrap();
    good.has(Note, "note", json!({ "change": change["change"], "text": "x" })).await.unwrap();
    good.has(Fail, "open", json!({ "why": "postinst of jq" })).await.unwrap();
    good.has(Close, "close", change).await.unwrap();
    let short = |office: &Office| {
        office.kinds.iter().map(|kind| kind.trim_start_matches("patchloom.change.").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(short(&good), ["raised", "authorized", "updated", "updated", "closed", "closed"]);

    let mut bad = office();
    let change = bad.opened("2").await;
    bad.opened("3").await;
    bad.order(Order::Reject { comment: "not this week".to_owned() });
    assert_eq!(bad.has(Authorize, "authorize", change).await, Err("E0622".to_owned()));
    bad.has(Fail, "open", json!({})).await.unwrap();
    assert_eq!(short(&bad), ["raised", "updated", "rejected", "canceled"]);
}

/// All events that the journal of a data directory tells.
fn events_of(data: &Path) -> Vec<CloudEvent> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (journal, _) = EmbeddedJournal::open(&data.join("journal"), Options::new(SEMANTICS)).unwrap();
        let mut reader = journal.read_from(1).await.unwrap();
        let (mut state, mut events) = (Partition::default(), Vec::new());
        while let Some(record) = reader.next().await.unwrap() {
            let batch: Batch = serde_json::from_slice(&record.payload).unwrap();
            let mut facts = Vec::new();
            for entry in &batch.entries {
                facts.extend(state.apply(record.seq, batch.at, entry).map(|done| done.facts).unwrap_or_default());
            }
            events.extend(of_facts(SOURCE, record.seq, batch.at, &facts, Wanted::All));
        }
        events
    })
}

/// The types that `patchloom patch` on a root told, all held against their schemas.
fn lifecycle(spec: &Spec, root: &Root, options: &[&str]) -> BTreeMap<String, u32> {
    let data = root.beside("data");
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchloom"));
    command.arg("patch").arg("--root").arg(root.path()).args(options).arg("--data-dir").arg(&data);
    let output = command.env_remove("SUDO_USER").stdin(std::process::Stdio::null()).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    let mut kinds = BTreeMap::new();
    for event in events_of(&data) {
        spec.holds(&event);
        *kinds.entry(event.kind).or_default() += 1;
    }
    kinds.retain(|kind, _| kind.starts_with("patchloom.host.") || kind.starts_with("patchloom.change."));
    kinds
}

#[test]
fn the_lifecycle_on_real_roots_tells_hosts_and_changes_as_the_document_says() {
    if left_out() {
        return;
    }
    let spec = Spec::read();
    let counted = |kinds: &[(&str, u32)]| -> BTreeMap<String, u32> {
        kinds.iter().map(|(kind, count)| (format!("patchloom.{kind}"), *count)).collect()
    };
    let common = [("host.scanned", 1), ("host.assessed", 1), ("host.backed_up", 1), ("change.raised", 1)];
    let common =
        [common, [("change.authorized", 1), ("change.updated", 1), ("change.closed", 1), ("host.verified", 1)]];
    let with = |more: &[(&'static str, u32)]| counted(&[common.as_flattened(), more].concat());
    assert_eq!(lifecycle(&spec, &Root::mini(), &[]), with(&[("host.simulated", 1)]));
    let applied = lifecycle(&spec, &Root::mini(), &["--apply", "--yes"]);
    assert_eq!(applied, with(&[("host.snapshotted", 1), ("host.patched", 1)]));

    let broken = Root::mini();
    broken.enable(Repository::Broken);
    let mut undone = with(&[("host.snapshotted", 1), ("host.failed", 1), ("host.rolled_back", 1)]);
    undone.remove("patchloom.host.verified");
    assert_eq!(lifecycle(&spec, &broken, &["--apply", "--yes"]), undone);
}
