//! The client of AWS and hosts behind Systems Manager, against moto and a stub that runs commands on real hosts.
//!
//! Nothing here talks to AWS. Each request is checked by botocore: signature, shape and, for EC2, its very words.

mod hosts;
mod outside;
mod policy;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use patchloom_bed::cloud::{BUCKET, Cloud};
use patchloom_workers::aws::{Aws, AwsOptions, Place, Purpose};
use serde_json::{Value, json};

/// The binary, in an environment that knows nothing but the cloud.
pub fn patchloom(home: &Path, env: &[(String, String)], arguments: &[&str]) -> Output {
    let mut command = Command::new(patchloom_bed::lean(env!("CARGO_BIN_EXE_patchloom")));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", home);
    command.envs(env.iter().cloned()).args(arguments).arg("--data-dir").arg(home.join("data"));
    command.stdin(Stdio::null()).output().expect("the binary starts")
}

/// All that it said.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn client(cloud: &Cloud) -> Aws {
    Aws::in_environment(&AwsOptions::default(), cloud.env().into_iter().collect()).unwrap()
}

fn purpose(owner: &str, run: &str, days: u64) -> Purpose {
    let keep = Duration::from_secs(days * 86_400);
    Purpose { owner: owner.to_owned(), run: run.to_owned(), change: Some("CHG0000007".to_owned()), keep }
}

#[tokio::test]
async fn snapshots_of_an_instance_are_made_once_and_deleted_by_their_owner_alone() {
    if patchloom_bed::left_out() {
        return;
    }
    let cloud = Cloud::alone();
    let (aws, instance) = (client(&cloud), cloud.instances()[0].clone());
    let made = aws.snapshot_instance(&instance, &purpose("us", "r1", 7)).await.unwrap();
    assert_eq!(made.len(), 1, "one for each volume");
    assert!(made[0].id.starts_with("snap-") && made[0].volume.starts_with("vol-"), "{made:?}");
    let again = aws.snapshot_instance(&instance, &purpose("us", "r1", 7)).await.unwrap();
    assert_eq!(again[0].id, made[0].id, "the same run has the same");
    let other = aws.snapshot_instance(&instance, &purpose("them", "r1", 7)).await.unwrap();
    assert_ne!(other[0].id, made[0].id);
    let ids = vec![made[0].id.clone()];
    let whole = aws.await_snapshots(&ids, Duration::from_secs(60)).await.unwrap();
    assert_eq!(whole[0].state, "completed");
    for (name, value) in [("owner", "us"), ("run", "r1"), ("change", "CHG0000007"), ("instance", instance.as_str())] {
        assert_eq!(whole[0].tags.get(&format!("patchloom:{name}")).map(String::as_str), Some(value), "{whole:?}");
    }
    let refused = aws.delete_snapshot(&other[0].id, "us").await.unwrap_err();
    assert_eq!(refused.code(), "E0964", "{refused}");
    aws.delete_snapshot(&made[0].id, "us").await.unwrap();
    aws.delete_snapshot(&made[0].id, "us").await.unwrap();
    assert_eq!(aws.snapshots_of("us", None).await.unwrap(), []);
    assert_eq!(aws.snapshots_of("them", Some("r1")).await.unwrap().len(), 1, "that of the others stands");
    let gone = aws.await_snapshots(&ids, Duration::from_secs(5)).await.unwrap_err();
    assert!(["E0964", "E0955"].contains(&gone.code()), "{gone}");
    assert_eq!(cloud.calls()["ec2:CreateSnapshots"], 2, "{}", cloud.calls());
}

#[test]
fn snapshots_whose_time_is_over_are_listed_and_deleted_and_no_others() {
    if patchloom_bed::left_out() {
        return;
    }
    let (cloud, home) = (Cloud::alone(), tempfile::tempdir().unwrap());
    let say = |arguments: &[&str]| patchloom(home.path(), &cloud.env(), arguments);
    let made = say(&["aws", "snapshot", &cloud.instances()[0], "--run", "night", "--change", "CHG0000001", "--json"]);
    assert!(made.status.success(), "{}", text(&made));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let old = runtime.block_on(async {
        let aws = client(&cloud);
        aws.snapshot_instance(&cloud.instances()[0], &purpose("patchloom", "old", 0)).await.unwrap()
    });
    let all = say(&["aws", "snapshots", "--delete"]);
    assert_eq!(all.status.code(), Some(2), "all of them are never meant: {}", text(&all));
    let over = say(&["aws", "snapshots", "--expired", "--delete", "--json"]);
    let listed: Value = serde_json::from_slice(&over.stdout).unwrap();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{}", text(&over));
    assert_eq!(listed[0]["id"], old[0].id.as_str());
    let left = say(&["aws", "snapshots"]);
    assert!(text(&left).contains("run night") && !text(&left).contains("run old"), "{}", text(&left));
}

#[tokio::test]
async fn objects_go_to_s3_and_come_back_whatever_their_keys_hold() {
    if patchloom_bed::left_out() {
        return;
    }
    let cloud = Cloud::alone();
    let aws = client(&cloud);
    for key in ["plain", "a b/c+d=e&f?g", "dir/ünïcode-漢字", "~tilde*star'(paren)!"] {
        let place = Place { bucket: BUCKET.to_owned(), key: key.to_owned() };
        assert!(!aws.has_object(&place).await.unwrap(), "{key}");
        assert_eq!(aws.get_object(&place).await.unwrap(), None, "{key}");
        let content = format!("the content of {key}").into_bytes();
        aws.put_object(&place, content.clone()).await.unwrap();
        assert!(aws.has_object(&place).await.unwrap(), "{key}");
        assert_eq!(aws.get_object(&place).await.unwrap().as_deref(), Some(content.as_slice()), "{key}");
        aws.delete_object(&place).await.unwrap();
        aws.delete_object(&place).await.unwrap();
        assert_eq!(aws.get_object(&place).await.unwrap(), None, "{key}");
    }
    let nowhere = Place { bucket: "no-such-bucket".to_owned(), key: "x".to_owned() };
    let refused = aws.put_object(&nowhere, vec![1]).await.unwrap_err();
    assert!(refused.code() == "E0955" && refused.to_string().contains("NoSuchBucket"), "{refused}");
    assert_eq!(cloud.log(), "", "botocore agrees with each request");
}

#[tokio::test]
async fn what_systems_manager_knows_is_read_page_by_page_and_told_back() {
    if patchloom_bed::left_out() {
        return;
    }
    let cloud = Cloud::alone();
    let (aws, instance) = (client(&cloud), cloud.instances()[0].clone());
    let states = aws.patch_states(std::slice::from_ref(&instance)).await.unwrap();
    assert_eq!(states[0]["MissingCount"], 3);
    let home = tempfile::tempdir().unwrap();
    let report = home.path().join("report.json");
    let missing = |name: &str, security: bool, outcome: Option<&str>| json!({ "name": name, "candidate": "3.0.17", "security": security, "outcome": outcome });
    for (rows, told) in [
        (
            vec![missing("openssl", true, None), missing("bash", false, Some("installed"))],
            ["NON_COMPLIANT", "COMPLIANT"],
        ),
        (vec![], ["COMPLIANT", "nothing is missing"]),
    ] {
        std::fs::write(&report, json!({ "run": "r1", "missing": rows }).to_string()).unwrap();
        let said = patchloom(home.path(), &cloud.env(), &["aws", "comply", &instance, report.to_str().unwrap()]);
        assert!(said.status.success(), "{}{}", text(&said), cloud.log());
        let kept = cloud.tell("cloud/compliance");
        assert!(kept.contains("Custom:Patchloom") && told.iter().all(|word| kept.contains(word)), "{kept}");
    }
    assert_eq!(cloud.log(), "", "botocore agrees with each request");
}

#[test]
fn who_is_slowed_down_or_meets_a_fault_asks_again_and_who_may_not_is_told_so() {
    if patchloom_bed::left_out() {
        return;
    }
    let (cloud, home) = (Cloud::alone(), tempfile::tempdir().unwrap());
    let states = |env: &[(String, String)]| patchloom(home.path(), env, &["aws", "states", &cloud.instances()[0]]);
    cloud.tell("cloud/fault/throttle/2");
    cloud.tell("cloud/fault/break/1");
    let said = states(&cloud.env());
    assert!(said.status.success() && text(&said).contains("missing 3"), "{}", text(&said));
    cloud.tell("cloud/fault/throttle/100");
    let said = states(&cloud.env());
    assert!(said.status.code() == Some(1) && text(&said).contains("E0954"), "{}", text(&said));
    cloud.tell("cloud/fault/throttle/0");
    let with = |name: &str, value: &str| {
        let mut env = cloud.env();
        env.retain(|(own, _)| own != name);
        if !value.is_empty() {
            env.push((name.to_owned(), value.to_owned()));
        }
        env
    };
    for (env, code, status) in [
        (with("AWS_SECRET_ACCESS_KEY", "wrong"), "E0953", 1),
        (with("AWS_ACCESS_KEY_ID", "AKIANOBODY"), "E0953", 1),
        (with("AWS_SESSION_TOKEN", "stale"), "E0953", 1),
        (with("AWS_REGION", ""), "E0951", 3),
        (with("AWS_PROFILE", "nobody"), "E0950", 3),
        (with("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), "E0952", 1),
        (with("AWS_ENDPOINT_URL", "ftp://127.0.0.1"), "E0952", 1),
    ] {
        let said = states(&env);
        assert!(said.status.code() == Some(status) && text(&said).contains(code), "{code}: {}", text(&said));
    }
    let mut alone = with("AWS_ACCESS_KEY_ID", "");
    alone.push(("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned()));
    assert!(text(&states(&alone)).contains("E0950"), "{}", text(&states(&alone)));
}

#[test]
fn a_machine_with_a_role_is_lent_its_keys_and_a_profile_gives_its_own() {
    if patchloom_bed::left_out() {
        return;
    }
    let (cloud, home) = (Cloud::alone(), tempfile::tempdir().unwrap());
    let mut env = cloud.env();
    env.retain(|(name, _)| !name.contains("KEY"));
    env.push(("AWS_EC2_METADATA_SERVICE_ENDPOINT".to_owned(), cloud.address().to_owned()));
    let said = patchloom(home.path(), &env, &["aws", "states", &cloud.instances()[0]]);
    assert!(said.status.success() && text(&said).contains("missing 3"), "lent: {}", text(&said));
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    let keys = "[ops]\naws_access_key_id = AKIATEST\naws_secret_access_key = secret/of+tests\n";
    std::fs::write(home.path().join(".aws/credentials"), keys).unwrap();
    env.retain(|(name, _)| !name.contains("METADATA"));
    let said =
        patchloom(home.path(), &env, &["aws", "states", &cloud.instances()[0], "--json", "--aws-profile", "ops"]);
    assert!(said.status.success(), "{}", text(&said));
    let states: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(states["InstancePatchStates"][0]["FailedCount"], 1);
}
