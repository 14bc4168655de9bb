//! zypper's answers as they are, and zypper itself where it is installed.

use patchloom_domain::PackageId;

use super::missing::{conflicts, locked, patches, updates};
use super::xml::{summary, tags};

fn id(name: &str) -> PackageId {
    PackageId { name: name.to_owned(), arch: "noarch".to_owned() }
}

const PATCHES: &str = r#"<?xml version='1.0'?><stream><update-list>
<update kind="patch" name="LOOM-1" edition="1" category="security" severity="important"><summary>a &lt; b</summary>
<issue-list><issue type="cve" id="CVE-2099-2001"/><issue type="bugzilla" id="7"/></issue-list></update><update kind="patch"
name="LOOM-2" category="bugfix" severity="none"><issue-list/></update></update-list></stream>"#;

#[test]
fn tags_are_read_with_what_their_attributes_mean() {
    let found = tags("text <a x='1 > 0' y=\"&lt;&amp;lt;&quot;\"/><!-- no --><b>t</b>");
    let names: Vec<&str> = found.iter().map(|tag| tag.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "/b"]);
    assert_eq!((found[0].get("x"), found[0].get("y"), found[0].get("z")), ("1 > 0", "<&lt;\"", ""));
    for cut in ["<", "<a", "<a x", "<a x=", "<a x='", "<a x='1"] {
        assert!(tags(cut).iter().all(|tag| tag.attributes.is_empty()), "{cut}");
    }
}

#[test]
fn patches_tell_their_vulnerabilities_and_their_packages() {
    let found = patches(PATCHES);
    let first = &found["LOOM-1"];
    assert_eq!((first.security, first.severity.as_str()), (true, "important"));
    assert_eq!(first.cves.iter().map(String::as_str).collect::<Vec<_>>(), ["CVE-2099-2001"]);
    assert!(!found["LOOM-2"].security && found["LOOM-2"].cves.is_empty());
    let text = "Information for patch LOOM-1:\n---\nName        : LOOM-1\nSummary     : x\nProvides    : patch:LOOM-1 = 1\n\
                Conflicts   : [3]\n    loom-lib < 2-1\n    loom-app.noarch < 1:2-1\n    srcpackage:loom-lib < 2-1\n\n\
                Name        : LOOM-2\nDescription :\n    no < 9\nConflicts   : loom-post < 2-1\n";
    let pair = |name: &str, version: &str| (name.to_owned(), version.to_owned());
    let rows = [
        ("LOOM-1".to_owned(), vec![pair("loom-lib", "2-1"), pair("loom-app.noarch", "1:2-1")]),
        ("LOOM-2".to_owned(), vec![pair("loom-post", "2-1")]),
    ];
    assert_eq!(conflicts(text), rows);
}

#[test]
fn updates_and_a_dry_run_are_read() {
    let text = r#"<update kind="package" name="a" edition="1:2-1" arch="noarch" edition-old="1-1"><source url="u" alias="main"/></update>"#;
    let found = updates(text);
    let offer = &found[&id("a")];
    assert_eq!(
        (offer.before.as_deref(), offer.version.as_str(), offer.origin.as_str()),
        (Some("1-1"), "1:2-1", "main")
    );
    let text = r#"<install-summary><to-upgrade><solvable type="package" name="a" edition="2-1" arch="noarch" edition-old="1-1"/>
        <solvable type="patch" name="LOOM-1" edition="1" arch="noarch"/></to-upgrade><to-install>
        <solvable type="package" name="b" edition="2-1" arch="noarch"/></to-install><to-remove>
        <solvable type="package" name="c" edition="1-1" arch="noarch"/></to-remove></install-summary>"#;
    let found = summary(text);
    let rows: Vec<_> =
        found.installs.iter().map(|(id, row)| (id.name.as_str(), row.0.as_deref(), row.1.as_str())).collect();
    assert_eq!(rows, [("a", Some("1-1"), "2-1"), ("b", None, "2-1")]);
    assert_eq!(found.removes.into_iter().collect::<Vec<_>>(), [("c".to_owned(), "1-1".to_owned())]);
    assert_eq!(locked("type: package\nsolvable_name: a\n\nsolvable_name: b*\n").len(), 2);
}

#[test]
fn a_capture_of_the_real_list_of_patches_is_read() {
    let home = std::env::var("PATCHLOOM_DATA").unwrap_or_else(|_| "../../shared/data".to_owned());
    let path = std::path::Path::new(&home).join("consoles/zypper-xml-list-patches.txt");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no {}", path.display());
        return;
    };
    let found = patches(&text);
    assert_eq!(found.len(), 3);
    assert_eq!(found["ACSA-2026:0101"].cves.len(), 2);
    assert!(!found["ACBA-2026:0103"].security);
}
