//! Snapshots of the volumes of instances as the second way back of a run, and the replacement of the volume that one boots from.

use std::fs;
use std::time::Duration;

use patchloom_bed::cloud::{BUCKET, Cloud};
use patchloom_bed::fleet::{Fleet, FleetOptions, left_out};
use serde_json::Value;

use crate::{client, patchloom, purpose, text};

#[tokio::test]
async fn the_root_of_an_instance_is_replaced_once_by_what_its_snapshot_holds() {
    if patchloom_bed::left_out() {
        return;
    }
    let cloud = Cloud::alone();
    let (aws, instance) = (client(&cloud), cloud.instances()[0].clone());
    let volumes = aws.volumes_of(&instance).await.unwrap();
    let roots: Vec<&str> = volumes.iter().filter(|one| one.boots).map(|one| one.id.as_str()).collect();
    let made = aws.snapshot_instance(&instance, &purpose("patchloom", "r1", 7)).await.unwrap();
    assert_eq!(roots, [made[0].volume.as_str()]);
    assert!(made[0].is_of(&instance) && !made[0].is_of("i-00000000"));
    let order = (instance.as_str(), made[0].id.as_str());
    let done = aws.replace_root(order, "key-1", Duration::from_secs(60)).await.unwrap();
    assert_eq!(done.state, "succeeded");
    let again = aws.replace_root(order, "key-1", Duration::from_secs(60)).await.unwrap();
    assert_eq!(again.id, done.id, "the same order");
    cloud.tell("cloud/fault/replace/1");
    let failed = aws.replace_root(order, "key-2", Duration::from_secs(60)).await.unwrap_err();
    assert!(failed.code() == "E0964" && failed.to_string().contains("is failed"), "{failed}");
    let unknown = aws.volumes_of("i-00000000000000000").await.unwrap_err();
    assert!(["E0955", "E0956"].contains(&unknown.code()), "{unknown}");
    assert_eq!(cloud.log(), "", "botocore agrees with each request");
}

#[test]
fn a_run_saves_the_volumes_of_its_instance_proves_them_and_deletes_them_when_all_is_well() {
    if left_out() {
        return;
    }
    let fleet = Fleet::start(FleetOptions { sites: vec![1], ..FleetOptions::default() });
    let updated = fleet.host("host-1").inside("apt-get -q update");
    assert!(updated.status.success(), "{}", text(&updated));
    let cloud = Cloud::of(&fleet);
    let mut env = cloud.env();
    env.push(("PATCHLOOM_AWS_BUCKET".to_owned(), format!("{BUCKET}/lab")));
    let (home, report) = (fleet.beside("home"), fleet.beside("report"));
    fs::create_dir_all(&home).unwrap();
    let words = ["patch", "--ssm", &cloud.instances()[0], "--snapshot", "ebs,replace-root", "--apply", "--yes"];
    let output = patchloom(&home, &env, &[&words[..], &["--report-dir", &report.display().to_string()]].concat());
    let told: Value =
        serde_json::from_slice(&fs::read(report.join("report.json")).unwrap_or_default()).unwrap_or_default();
    assert_eq!(told["end"], "succeeded", "{}{}", text(&output), cloud.log());
    let calls = cloud.calls();
    for (operation, times) in [("CreateSnapshots", 1), ("DeleteSnapshot", 1)] {
        assert_eq!(calls[format!("ec2:{operation}")], times, "{calls:#}");
    }
    assert!(calls["ec2:CreateReplaceRootVolumeTask"].is_null(), "{calls:#}");
    let changes = patchloom(&home, &env, &["change", "list", "--json"]);
    assert!(text(&changes).contains("by ebs:i-"), "the change says so: {}", text(&changes));
    let left = patchloom(&home, &env, &["snapshot", "list", "--json"]);
    assert_eq!(String::from_utf8_lossy(&left.stdout).trim(), "[]", "{}", text(&left));
}
