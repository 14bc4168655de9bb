//! `patchloom inventory` as a person meets it: import, show, check, diff, with their exit codes.

use crate::bed::Bed;

const HOSTS: &str = "inventory: 1\nhosts:\n- {id: web-1, os: debian, environment: prod, tags: {Patch Group: web}}\n\
                     - {id: db-1, os: debian, site: bonn}\n";
const POLICY: &str = "groups:\n  web: {baselines: {debian: std}, window: night}\n\
                      calendars: {night: {cron: 0 22 * * *, timezone: UTC, duration: 4h}}\n";

#[test]
fn an_inventory_is_shown_first_recorded_when_asked_and_compared_ever_after() {
    let bed = Bed::new();
    let (hosts, policy) = (bed.file("hosts.yaml", HOSTS), bed.file("groups.yaml", POLICY));
    bed.run(&["inventory", "show"]).fault(4, "E0829", &["import"]);
    let said = bed.run(&["inventory", "import", &hosts, "--policy", &policy]).ends(0).out;
    assert!(said.contains("+ host web-1") && said.contains("+ schedule night"), "{said}");
    bed.run(&["inventory", "show"]).fault(4, "E0829", &["import"]);
    let said = bed.run(&["inventory", "import", &hosts, "--policy", &policy, "--apply"]).ends(0).out;
    assert!(said.ends_with("recorded as version 1\n"), "{said}");
    // The second time nothing changes.
    let json = bed.run(&["inventory", "import", &hosts, "--policy", &policy, "--apply", "--json"]).ends(0).json();
    assert_eq!((&json["recorded"], &json["drift"], &json["version"]), (&false.into(), &false.into(), &1.into()));
    bed.run(&["inventory", "diff"]).ends(0);
    bed.file("hosts.yaml", &HOSTS.replace("bonn", "berlin"));
    let said = bed.run(&["inventory", "diff"]).ends(1).out;
    assert!(said.contains("~ host db-1\n    site: \"bonn\" -> \"berlin\"\n"), "{said}");
    bed.file("hosts.yaml", "inventory: 1\nhosts: []\n");
    let json = bed.run(&["inventory", "diff", "--json"]).ends(1).json();
    assert_eq!(json["diff"]["groups"][0]["what"], "emptied");
}

#[test]
fn hosts_are_selected_and_written_out_as_they_can_be_read() {
    let bed = Bed::new();
    let hosts = bed.file("hosts.yaml", HOSTS);
    bed.run(&["inventory", "import", &hosts, "--apply"]).ends(0);
    let json =
        bed.run(&["inventory", "show", "group=web", "environment=prod", "site!=berlin", "--json"]).ends(0).json();
    assert_eq!((json.as_array().map(Vec::len), &json[0]["id"]), (Some(1), &"web-1".into()));
    let json = bed.run(&["inventory", "show", "tag:Patch Group=web", "--json"]).ends(0).json();
    assert_eq!(json.as_array().map(Vec::len), Some(1));
    bed.run(&["inventory", "show", "enviroment=prod"]).fault(2, "E0820", &["column 1", "write `environment`"]);
    let yaml = bed.file("out.yaml", &bed.run(&["inventory", "show", "--yaml"]).ends(0).out);
    bed.run(&["inventory", "diff", &yaml]).ends(0);
}

#[test]
fn mistakes_are_told_with_their_places_and_nothing_is_recorded() {
    let bed = Bed::new();
    let hosts = bed.file("hosts.yaml", "inventory: 1\nhosts:\n- {id: a, enviroment: prod}\n- {id: a}\n");
    let said = bed.run(&["inventory", "import", &hosts, "--apply"]).ends(4);
    assert!(said.err.contains("hosts.yaml:3") && said.err.contains("= fix: write `environment`"), "{}", said.err);
    assert!(!bed.data().join("inventory").exists());
    let said = bed.run(&["inventory", "check", &hosts]).ends(4).out;
    assert!(said.contains("error[E0816]") && said.contains("hosts.yaml:4"), "{said}");
    let json = bed.run(&["inventory", "check", &hosts, "--json"]).ends(4).json();
    assert!(json["mistakes"].as_array().is_some_and(|list| list.len() >= 2), "{json}");
}
