//! The policy in docs/aws.md allows what the client asks for, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// The operations that a source file names.
fn operations(text: &str) -> BTreeSet<String> {
    text.split('"')
        .filter_map(|word| word.split_once(':'))
        .filter(|(service, name)| {
            ["ec2", "ssm", "s3"].contains(service)
                && name.starts_with(|c: char| c.is_ascii_uppercase())
                && name.chars().all(|c| c.is_ascii_alphanumeric())
        })
        .map(|(service, name)| format!("{service}:{name}"))
        .collect()
}

/// What a policy has to allow for an operation.
fn actions(operation: &str) -> Vec<&str> {
    match operation {
        // Asked by HEAD; without the right to list, what is not there looks forbidden.
        "s3:HeadObject" => vec!["s3:GetObject", "s3:ListBucket"],
        // Tags are set as snapshots and replacements are made.
        "ec2:CreateSnapshots" => vec!["ec2:CreateSnapshots", "ec2:CreateTags"],
        "ec2:CreateReplaceRootVolumeTask" => vec!["ec2:CreateReplaceRootVolumeTask", "ec2:CreateTags"],
        other => vec![other],
    }
}

#[test]
fn the_policy_in_the_manual_allows_every_request_of_the_client_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut asked = BTreeSet::new();
    for entry in std::fs::read_dir(root.join("workers/src/aws")).unwrap() {
        asked.extend(operations(&std::fs::read_to_string(entry.unwrap().path()).unwrap()));
    }
    assert!(asked.len() > 12, "{asked:?}");
    let wanted: BTreeSet<String> = asked.iter().flat_map(|operation| actions(operation)).map(str::to_owned).collect();
    let manual = std::fs::read_to_string(root.join("docs/aws.md")).unwrap();
    let json = manual.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a policy in JSON");
    let policy: Value = serde_json::from_str(json).unwrap();
    let mut allowed = BTreeSet::new();
    for statement in policy["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        for action in statement["Action"].as_array().unwrap() {
            let action = action.as_str().unwrap();
            assert!(!action.contains('*'), "{action}");
            allowed.insert(action.to_owned());
        }
    }
    assert_eq!(allowed, wanted);
}

#[test]
fn whatever_may_be_deleted_or_tagged_is_bound_to_our_tags() {
    let manual = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/aws.md")).unwrap();
    let json = manual.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let policy: Value = serde_json::from_str(json).unwrap();
    for statement in policy["Statement"].as_array().unwrap() {
        let actions = statement["Action"].to_string();
        for dangerous in ["ec2:DeleteSnapshot", "ec2:CreateTags"] {
            assert!(!actions.contains(dangerous) || !statement["Condition"].is_null(), "{statement:#}");
        }
        assert!(!actions.contains("SendCommand") || statement["Resource"] != "*", "{statement:#}");
    }
}
