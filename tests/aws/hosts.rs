//! Hosts behind Systems Manager: looked at, patched, out of reach; found by the inventory.

use std::fs;
use std::path::{Path, PathBuf};

use patchloom_bed::cloud::{BUCKET, Cloud};
use patchloom_bed::fleet::{Fleet, FleetOptions, left_out};
use patchloom_workers::aws::Place;
use serde_json::{Value, json};

use crate::{client, patchloom, text};

struct Bench {
    cloud: Cloud,
    fleet: Fleet,
}

/// What one `patchloom patch --ssm` came to.
struct Said {
    code: Option<i32>,
    talk: String,
    report: Value,
}

impl Bench {
    fn new() -> Self {
        let fleet = Fleet::start(FleetOptions { sites: vec![1], ..FleetOptions::default() });
        let updated = fleet.host("host-1").inside("apt-get -q update");
        assert!(updated.status.success(), "{}", text(&updated));
        Self { cloud: Cloud::of(&fleet), fleet }
    }

    fn home(&self) -> PathBuf {
        let home = self.fleet.beside("home");
        fs::create_dir_all(&home).unwrap();
        home
    }

    fn patch(&self, options: &[&str]) -> Said {
        let mut env = self.cloud.env();
        env.push(("PATCHLOOM_AWS_BUCKET".to_owned(), format!("{BUCKET}/lab")));
        let report = self.fleet.beside("report");
        drop(fs::remove_dir_all(&report));
        let place = report.display().to_string();
        let mut arguments = vec!["patch", "--ssm", &self.cloud.instances()[0], "--report-dir", &place];
        arguments.extend(options);
        let output = patchloom(&self.home(), &env, &arguments);
        let report = fs::read(report.join("report.json")).ok();
        let report = report.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Said { code: output.status.code(), talk: format!("{}{}", text(&output), self.cloud.log()), report }
    }
}

impl Bench {
    /// The evidence of the last change, exported to S3, proves there what it proves here.
    fn evidence_goes_to_s3(&self) {
        let say = |arguments: &[&str]| patchloom(&self.home(), &self.cloud.env(), arguments);
        let file = self.fleet.beside("evidence.tar.zst");
        let to = format!("s3://{BUCKET}/proofs/");
        let told = say(&["evidence", "export", "last", "--output", file.to_str().unwrap(), "--to", &to]);
        assert!(told.status.success(), "{}{}", text(&told), self.cloud.log());
        assert!(text(&told).contains(&format!("{to}CHG0000001.tar.zst")), "{}", text(&told));
        let place = Place { bucket: BUCKET.to_owned(), key: "proofs/CHG0000001.tar.zst".to_owned() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let kept = runtime.block_on(async { client(&self.cloud).get_object(&place).await.unwrap().unwrap() });
        assert_eq!(kept, fs::read(&file).unwrap());
        fs::write(&file, kept).unwrap();
        let sound = say(&["evidence", "verify", file.to_str().unwrap()]);
        assert!(sound.status.success() && text(&sound).contains("CHG0000001 (Closed"), "{}", text(&sound));
        let nowhere = say(&["evidence", "export", "last", "--to", "s3://no-such-bucket/x"]);
        assert!(nowhere.status.code() == Some(1) && text(&nowhere).contains("E0955"), "{}", text(&nowhere));
        let wrong = say(&["evidence", "export", "last", "--to", "s3:///x"]);
        assert!(wrong.status.code() == Some(2) && text(&wrong).contains("E0965"), "{}", text(&wrong));
    }
}

impl Said {
    fn ended(&self) -> (Option<i32>, &str) {
        (self.code, self.report["end"].as_str().unwrap_or_default())
    }
}

#[test]
fn a_host_behind_systems_manager_is_looked_at_and_nothing_on_it_changes() {
    if left_out() {
        return;
    }
    let bench = Bench::new();
    let before = bench.fleet.packages("host-1");
    let said = bench.patch(&[]);
    assert_eq!(said.ended(), (Some(0), "succeeded"), "{}", said.talk);
    let missing = said.report["missing"].as_array().map(Vec::len);
    assert_eq!(missing, Some(bench.fleet.pairs().len()), "all that waits is found");
    assert_eq!(bench.fleet.packages("host-1"), before);
    let calls = bench.cloud.calls();
    assert!(calls["ssm:SendCommand"].as_u64() > Some(3) && calls["s3:PutObject"].as_u64() > Some(0), "{calls}");
    let left = bench.fleet.host("host-1").inside("ls -d /var/tmp/patchloom-* 2>/dev/null");
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "nothing of the commands stays");
}

#[test]
fn all_real_updates_are_installed_through_systems_manager_although_a_command_is_lost() {
    if left_out() {
        return;
    }
    let bench = Bench::new();
    let mut wanted = bench.fleet.packages("host-1");
    for pair in bench.fleet.pairs() {
        let row = wanted.iter_mut().find(|(name, _)| name.split(':').next() == Some(pair.name.as_str()));
        *row.expect("what waits is installed in its former version").1 = format!("{} ii", pair.new);
    }
    // Slowed down; and two commands that begin a task on the host and end so that nobody knows whether they did.
    bench.cloud.tell("cloud/fault/throttle/3");
    bench.cloud.tell("cloud/fault/terminate/2");
    let said = bench.patch(&["--apply", "--yes"]);
    assert_eq!(said.ended(), (Some(0), "succeeded"), "{}", said.talk);
    assert_eq!(bench.fleet.packages("host-1"), wanted, "exactly the planned versions, and nothing else");
    let installs =
        bench.fleet.host("host-1").inside("grep -l host.install /var/lib/patchloom/tasks/*/task.json | wc -l");
    assert_eq!(String::from_utf8_lossy(&installs.stdout).trim(), "1", "it was carried once");
    assert_eq!(bench.cloud.tell("cloud/left/terminate"), "0", "both were lost");
    bench.evidence_goes_to_s3();
}

#[test]
fn an_instance_that_is_out_of_reach_or_no_instance_is_told_by_its_code() {
    if left_out() {
        return;
    }
    let bench = Bench::new();
    let id = &bench.cloud.instances()[0];
    bench.cloud.tell(&format!("cloud/offline/{id}"));
    let said = bench.patch(&[]);
    assert_eq!(said.code, Some(1), "{}", said.talk);
    assert_eq!(said.report["failure"]["code"], "E0958", "{}", said.talk);
    let env = bench.cloud.env();
    let unknown = patchloom(&bench.home(), &env, &["patch", "--ssm", "i-00000000000000000", "--json"]);
    assert!(text(&unknown).contains("E0958"), "{}", text(&unknown));
    let alone = patchloom(&bench.home(), &env, &["patch", "--ssm", "mi-xyz", "--json"]);
    assert!(text(&alone).contains("E0965"), "{}", text(&alone));
}

#[test]
fn the_inventory_finds_instances_and_how_they_are_reached() {
    if patchloom_bed::left_out() {
        return;
    }
    let (cloud, home) = (Cloud::alone(), tempfile::tempdir().unwrap());
    let said = patchloom(home.path(), &cloud.env(), &["inventory", "import", "--aws", "--apply"]);
    assert!(said.status.success(), "{}{}", text(&said), cloud.log());
    let shown = patchloom(home.path(), &[], &["inventory", "show", "--json"]);
    let hosts: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(hosts.as_array().map(Vec::len), Some(1), "{hosts:#}");
    assert_eq!(hosts[0]["target"]["kind"], "ssm", "{hosts:#}");
    assert_eq!(hosts[0]["target"]["instance"], cloud.instances()[0].as_str());
    assert_eq!(hosts[0]["target"]["region"], "eu-west-1");
    assert_eq!(hosts[0]["tags"]["Patch Group"], "web");
    assert_eq!(hosts[0]["os"]["id"], "debian");
    let group = patchloom(home.path(), &[], &["inventory", "show", "via=ssm", "tag:Name=host-1"]);
    assert!(text(&group).contains(cloud.instances()[0].as_str()), "{}", text(&group));
    let yaml = patchloom(home.path(), &[], &["inventory", "show", "--yaml"]);
    let file = home.path().join("again.yaml");
    fs::write(&file, &yaml.stdout).unwrap();
    let again = patchloom(home.path(), &[], &["inventory", "show", "--file", file.to_str().unwrap(), "--json"]);
    let read: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(read, hosts, "what is written reads back as the same: {}", text(&again));
}

/// The tags of the one instance, as EC2 was last asked for them.
fn tags_of_ec2(home: &Path) -> Value {
    let text = fs::read(home.join("data/inventory/aws/eu-west-1-ec2.json")).unwrap();
    let answer: Value = serde_json::from_slice(&text).unwrap();
    let tags = answer["Reservations"][0]["Instances"][0]["Tags"].as_array().unwrap();
    tags.iter()
        .map(|tag| (tag["Key"].as_str().unwrap().to_owned(), tag["Value"].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn instances_get_the_tags_that_people_wrote_where_that_is_asked_for_and_only_then() {
    if patchloom_bed::left_out() {
        return;
    }
    let (cloud, home) = (Cloud::alone(), tempfile::tempdir().unwrap());
    let instance = cloud.instances()[0].clone();
    let people = home.path().join("people.yaml");
    let hosts =
        format!("inventory: 1\nhosts:\n- {{id: {instance}, tags: {{Patch Group: database, CostCentre: '42'}}}}\n");
    fs::write(&people, hosts).unwrap();
    let import = |more: &[&str]| {
        let words = [&["inventory", "import", people.to_str().unwrap(), "--aws"], more].concat();
        let said = patchloom(home.path(), &cloud.env(), &words);
        assert!(said.status.success(), "{}{}", text(&said), cloud.log());
        text(&said)
    };
    let shown = import(&["--write-tags"]);
    let change = format!("~ tag \"Patch Group\" of {instance}: \"web\" -> \"database\"");
    let new = format!("~ tag \"CostCentre\" of {instance}: nothing -> \"42\"");
    assert!(shown.contains(&change) && shown.contains(&new), "{shown}");
    assert!(shown.contains("2 tags to be written with --apply"), "{shown}");
    let not_asked = import(&["--apply"]);
    assert!(!not_asked.contains("written"), "{not_asked}");
    assert_eq!(tags_of_ec2(home.path())["Patch Group"], "web", "nothing was written yet");

    assert!(import(&["--write-tags", "--apply"]).contains("2 tags written to EC2"));
    let again = import(&["--write-tags", "--apply", "--json"]);
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(
        (&again["tags_written"], &again["instance_tags"], &again["recorded"]),
        (&json!(0), &json!([]), &json!(false))
    );
    let tags = tags_of_ec2(home.path());
    assert_eq!(
        (&tags["Patch Group"], &tags["CostCentre"], &tags["Name"]),
        (&json!("database"), &json!("42"), &json!("host-1"))
    );
}

#[test]
fn the_reconcile_job_asks_aws_and_gives_tags_back() {
    if patchloom_bed::left_out() {
        return;
    }
    let (cloud, home) = (Cloud::alone(), tempfile::tempdir().unwrap());
    let instance = cloud.instances()[0].clone();
    let people = home.path().join("people.yaml");
    fs::write(&people, format!("inventory: 1\nhosts:\n- {{id: {instance}, tags: {{Patch Group: database}}}}\n"))
        .unwrap();
    let start = |inputs: &[&str]| {
        let mut words = vec!["run", "start", "reconcile", "--wait", "--json"];
        words.extend(inputs.iter().flat_map(|input| ["--input", input]));
        let said = patchloom(home.path(), &cloud.env(), &words);
        let run: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", text(&said)));
        run["output"].clone()
    };
    let sources = format!("sources=[\"{}\"]", people.display());
    let first = start(&[&sources, "aws=true", "write_tags=true"]);
    assert_eq!((&first["recorded"], &first["tags_written"]), (&json!(true), &json!(1)), "{first:#}");
    // What is configured now, AWS among it.
    let second = start(&["aws=true", "write_tags=true"]);
    assert_eq!((&second["drift"], &second["tags_written"]), (&json!(false), &json!(0)), "{second:#}");
    assert_eq!(tags_of_ec2(home.path())["Patch Group"], "database");
}
