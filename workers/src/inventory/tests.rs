//! Sources on disk, the recorded document, and the task that reconciles them.

use std::fs;

use patchloom_core::{Leg, RunId, TaskKey, UtcMs};
use patchloom_domain::inventory::{Inventory, Level, Policy};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::runtime::{DataDir, Handler as _, TaskContext};

struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn store(&self) -> InventoryStore {
        InventoryStore::new(&self.0.path().join("data"))
    }

    fn sources(&self, file: &std::path::Path) -> Sources {
        Sources { files: vec![file.to_owned()], ..Sources::default() }
    }

    async fn reconcile(&self, input: Value) -> Result<Value, patchloom_core::Failure> {
        let key =
            TaskKey { run: RunId(uuid::Uuid::from_u128(1)), step: "r".into(), item: 0, attempt: 1, leg: Leg::Forward };
        let data = DataDir::new(self.0.path().join("data"));
        let (context, _heard) = TaskContext::new(key, 0, CancellationToken::new(), data);
        let answer = InventoryReconcile::default().run(&context, input).await;
        if let Ok(answer) = &answer {
            let contracts = crate::contracts();
            assert_eq!(contracts.get("inventory.reconcile").unwrap().gives(answer), Ok(()));
        }
        answer
    }
}

fn hosts(count: usize) -> String {
    let rows: String = (0..count).map(|n| format!("- {{id: h{n}, tags: {{Patch Group: web}}}}\n")).collect();
    format!("inventory: 1\nhosts:\n{rows}")
}

#[test]
fn an_ansible_directory_brings_its_variables_along() {
    let lab = Lab::new();
    lab.write("inv/hosts.ini", "[web]\nweb-1\n");
    lab.write("inv/more", "[db]\ndb-1\n");
    lab.write("inv/hosts.ini~", "[broken\n");
    lab.write("inv/group_vars/web/main.yml", "site: berlin\n");
    lab.write("inv/host_vars/db-1.yaml", "site: bonn\n");
    let prepared = prepare(&lab.sources(&lab.0.path().join("inv")), None, &[]).unwrap();
    assert!(prepared.mistakes.list().is_empty(), "{:#?}", prepared.mistakes);
    let told: Vec<_> = prepared.desired.hosts.iter().map(|host| (host.id.as_str(), host.site.as_deref())).collect();
    assert_eq!(told, [("db-1", Some("bonn")), ("web-1", Some("berlin"))]);
}

#[test]
fn what_is_recorded_is_kept_in_versions_and_the_same_again_changes_nothing() {
    let lab = Lab::new();
    let file = lab.write("hosts.yaml", &hosts(3));
    let inventory = prepare(&lab.sources(&file), None, &[]).unwrap().desired;
    let record =
        |inventory: &Inventory| lab.store().record(lab.sources(&file), inventory.clone(), (UtcMs(7), false)).unwrap();
    assert_eq!((record(&inventory).0.version, record(&inventory).1), (1, false));
    let mut last = inventory;
    for round in 0..HISTORY_KEPT + 3 {
        last.hosts[0].site = Some(format!("s{round}"));
        assert!(record(&last).1);
    }
    let document = lab.store().load().unwrap().unwrap();
    assert_eq!((document.version, &document.inventory), (u64::try_from(HISTORY_KEPT).unwrap() + 4, &last));
    let kept = fs::read_dir(lab.0.path().join("data/inventory/versions")).unwrap().count();
    assert_eq!(kept, HISTORY_KEPT);
}

#[test]
fn a_damaged_document_is_refused_and_a_vanished_fleet_too() {
    let lab = Lab::new();
    let file = lab.write("hosts.yaml", &hosts(40));
    let inventory = prepare(&lab.sources(&file), None, &[]).unwrap().desired;
    lab.store().record(lab.sources(&file), inventory.clone(), (UtcMs(7), false)).unwrap();
    let few = |left: usize| Inventory::desired(inventory.hosts[..left].to_vec(), &Policy::default());
    let record = |left, allowed| lab.store().record(lab.sources(&file), few(left), (UtcMs(8), allowed));
    let refused = record(35, false).unwrap_err();
    assert_eq!((refused.code(), refused.to_string()), ("E0825", "5 of 40 recorded hosts would be gone".to_owned()));
    assert!(record(36, false).is_ok());
    assert!(record(5, true).is_ok());
    let path = lab.0.path().join("data/inventory/current.json");
    let text = fs::read_to_string(&path).unwrap().replacen("\"h0\"", "\"hx\"", 1);
    fs::write(&path, text).unwrap();
    assert_eq!(lab.store().load().unwrap_err().code(), "E0823");
}

#[test]
fn calendars_of_a_policy_are_checked_as_calendars() {
    let lab = Lab::new();
    let mut sources = lab.sources(&lab.write("hosts.yaml", &hosts(1)));
    sources.policies = vec![lab.write(
        "policy.yaml",
        "groups: {web: {window: w}}\ncalendars: {w: {cron: nonsense, timezone: UTC, duration: 1h}}\n",
    )];
    let prepared = prepare(&sources, None, &[]).unwrap();
    assert_eq!(prepared.count(Level::Error), 1, "{:#?}", prepared.mistakes);
    assert_eq!(prepared.mistakes.list()[0].code, "E0814");
}

#[tokio::test]
async fn the_task_records_once_tells_drift_and_refuses_mistakes() {
    let lab = Lab::new();
    assert_eq!(lab.reconcile(json!({})).await.unwrap()["configured"], false);
    let file = lab.write("hosts.yaml", &hosts(3));
    let first = lab.reconcile(json!({ "sources": [file] })).await.unwrap();
    assert_eq!(
        (&first["hosts_created"], &first["recorded"], &first["groups_changed"]),
        (&json!(3), &json!(true), &json!(1))
    );
    // From now on the recorded sources are the configured ones.
    let again = lab.reconcile(json!({})).await.unwrap();
    assert_eq!((&again["drift"], &again["recorded"], &again["version"]), (&json!(false), &json!(false), &json!(1)));
    lab.write("hosts.yaml", &hosts(4));
    let drift = lab.reconcile(json!({ "apply": false })).await.unwrap();
    assert_eq!((&drift["drift"], &drift["recorded"], &drift["version"]), (&json!(true), &json!(false), &json!(1)));
    assert_eq!(lab.reconcile(json!({})).await.unwrap()["version"], 2);
    lab.write("hosts.yaml", "inventory: 1\nhosts: [{id: a, colour: red}]\n");
    let refused = lab.reconcile(json!({})).await.unwrap_err();
    assert_eq!(refused.code, "E0822");
    assert!(refused.message.contains("hosts.yaml:2"), "{}", refused.message);
    fs::remove_file(&file).unwrap();
    assert_eq!(lab.reconcile(json!({})).await.unwrap_err().code, "E0824");
}
