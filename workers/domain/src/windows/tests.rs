//! Answers in the shape that the documented interface has; no Windows was asked for them.

use super::*;
use crate::FailureKind;

const GUID: &str = "7A3C9A9E-0d3b-4f4e-8d5f-0123456789ab";

fn id(revision: u32) -> WindowsUpdateId {
    format!("{GUID}.{revision}").parse().unwrap()
}

#[test]
fn only_a_guid_with_its_revision_becomes_part_of_a_script() {
    assert_eq!(id(200).to_string(), format!("{}.200", GUID.to_lowercase()));
    for wrong in ["", "x.1", GUID, "7a3c9a9e-0d3b-4f4e-8d5f-0123456789a'.1", "7a3c9a9e0d3b4f4e8d5f0123456789ab.1"] {
        assert!(wrong.parse::<WindowsUpdateId>().is_err(), "{wrong}");
    }
    assert!(format!("{GUID}.1;x").parse::<WindowsUpdateId>().is_err());
}

#[test]
fn what_is_offered_becomes_missing_patches() {
    let text = format!(
        "\u{feff}{{\"resultCode\":2,\"updates\":[{{\"id\":\"{GUID}.200\",\"title\":\"2026-11 Cumulative Update\",\
         \"articles\":[\"5034441\"],\"severity\":\"Critical\",\"cves\":[\"CVE-2099-1\"],\"categories\":[\"Security Updates\"],\
         \"size_bytes\":1048576,\"uninstallable\":true}},{{\"id\":\"{GUID}.1\",\"title\":\"Driver\",\"severity\":null}}]}}\r\n"
    );
    let found = windows_missing(&parse_search(&text).unwrap());
    let named = found.iter().find(|patch| patch.id.name == "KB5034441").unwrap();
    assert_eq!((named.security, named.urgency.as_deref(), named.size_bytes), (true, Some("critical"), Some(1 << 20)));
    assert_eq!((named.candidate.as_str(), named.cves.len()), (id(200).to_string().as_str(), 1));
    assert!(found.iter().any(|patch| !patch.security && patch.note.as_deref() == Some("Driver")));
    for half in ["", "{}", "null", "{\"resultCode\":3,\"updates\":[]}", "{\"resultCode\":2}"] {
        assert!(parse_search(half).is_err(), "{half}");
    }
}

#[track_caller]
fn check(hresult: u32, result: i32, kind: Option<FailureKind>) {
    let hresult = i32::from_ne_bytes(hresult.to_ne_bytes());
    let text = format!(
        "{{\"resultCode\":{result},\"rebootRequired\":true,\"updates\":[{{\"id\":\"{GUID}.1\",\"resultCode\":{result},\"hresult\":{hresult}}}]}}"
    );
    let run = parse_run(&text).unwrap();
    assert!(run.reboot_required);
    let found = run.failures();
    assert_eq!(found.first().and_then(|(_, diagnosis)| diagnosis.kind()), kind, "{hresult:#x} {found:?}");
}

#[test]
fn codes_go_through_the_classifier_of_all_package_managers() {
    check(0, 2, None);
    check(0x8024_0016, 4, Some(FailureKind::Locked));
    check(0x8007_0070, 4, Some(FailureKind::Disk));
    check(0x8024_402C, 4, Some(FailureKind::Fetch));
    check(0x8024_0044, 4, Some(FailureKind::Privilege));
    check(0x0024_0005, 2, Some(FailureKind::Reboot));
    assert!(
        !parse_run(&format!(
            "{{\"resultCode\":4,\"updates\":[{{\"id\":\"{GUID}.1\",\"resultCode\":4,\"hresult\":-1}}]}}"
        ))
        .unwrap()
        .failures()
        .is_empty()
    );
}

#[test]
fn scripts_name_exactly_the_updates_that_were_approved() {
    let words = install_words(&[id(1), id(2)]);
    assert_eq!(words.first().map(String::as_str), Some("powershell.exe"));
    let script = words.last().unwrap();
    let named = format!("$w=@('{}','{}')", id(1), id(2));
    assert!(script.contains(&named) && script.contains("not offered any more"), "{script}");
    assert!(!script.contains("  ") && !script.contains("RebootAfter"), "{script}");
    assert!(download_words(&[id(1)]).last().unwrap().contains("CreateUpdateDownloader"));
    assert!(search_words().last().unwrap().contains("IsInstalled=0 and IsHidden=0"));
    let installed = format!("{{\"resultCode\":2,\"installed\":[\"{GUID}.2\",\"{GUID}.1\"]}}");
    assert_eq!(parse_installed(&installed).unwrap().into_iter().collect::<Vec<_>>(), [id(1), id(2)]);
    assert!(read_back_words().last().unwrap().contains("IsInstalled=1"));
}

#[test]
fn the_way_back_goes_by_dism_where_it_knows_the_package_and_else_by_wusa() {
    let join = |words: Vec<String>| words.join(" ");
    assert_eq!(join(uninstall_words("KB5034441", None).unwrap()), "wusa.exe /uninstall /kb:5034441 /quiet /norestart");
    let package = "Package_for_RollupFix~31bf3856ad364e35~amd64~~20348.2227.1.8";
    let words = join(uninstall_words("5034441", Some(package)).unwrap());
    assert_eq!(words, format!("dism.exe /Online /Remove-Package /PackageName:{package} /Quiet /NoRestart"));
    assert!(uninstall_words("KB50;x", None).is_err() && uninstall_words("KB1", Some("a b")).is_err());
}
