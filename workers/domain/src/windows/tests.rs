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
    assert_eq!(words.first().map(String::as_str), Some(POWERSHELL));
    let script = words.last().unwrap();
    let named = format!("$w=@('{}','{}')", id(1), id(2));
    assert!(script.contains(&named) && script.contains("not offered any more"), "{script}");
    assert!(script.contains("CreateUpdateDownloader") && !script.contains("Restart"), "{script}");
    assert!(search_words().last().unwrap().contains("IsInstalled=0 and IsHidden=0"));
    assert!(read_back_words().last().unwrap().contains("IsInstalled=1"));
}

/// Every script as PowerShell gets it: whole, on one line, with as many brackets closed as opened.
#[test]
fn scripts_are_whole_and_nothing_in_them_escapes() {
    let all = [
        facts_words(),
        search_words(),
        read_back_words(),
        install_words(&[id(7)]),
        uninstall_words("KB5034441").unwrap(),
        line_words("Get-Service 'a b'"),
        service_words("it's"),
        process_words("x"),
        restart_words(),
        begin_words("0f-f1", install_words(&[id(7)]).last().unwrap()),
        revive_words("0f-f1"),
        look_words("0f-f1"),
    ];
    for words in &all {
        let script = words.last().unwrap();
        assert!(!script.contains('\n') && !script.contains("  "), "{script}");
        let mut open = Vec::new();
        let mut quoted = false;
        for c in script.chars() {
            match c {
                '\'' => quoted = !quoted,
                '(' | '{' | '[' if !quoted => open.push(c),
                ')' | '}' | ']' if !quoted => {
                    let begun = open.pop();
                    let fits = matches!((begun, c), (Some('('), ')') | (Some('{'), '}') | (Some('['), ']'));
                    assert!(fits, "{begun:?} {c} in {script}");
                }
                _ => {}
            }
        }
        assert!(open.is_empty() && !quoted, "{script}");
        assert!(script.is_ascii(), "what stands on standard input is read in more than one way else: {script}");
    }
    // The script of a task stands in a literal: what is quoted in it is doubled and nothing of it is looked at.
    let begin = begin_words("0f-f1", "'x'; $y").pop().unwrap();
    assert!(begin.contains("''x''; $y"), "{begin}");
    assert_eq!(literal("\u{2019}"), "'\u{2019}\u{2019}'");
}

#[test]
fn what_is_installed_and_what_waits_for_a_restart_are_packages() {
    let other = "00000000-0000-0000-0000-00000000000a.1";
    let text = format!(
        "{{\"resultCode\":2,\"installed\":[{{\"id\":\"{GUID}.2\",\"articles\":[\"5034441\"]}},{{\"id\":\"{GUID}.1\",\"articles\":[\"5034441\"]}}],\
         \"waiting\":[{{\"id\":\"{other}\",\"articles\":[]}}]}}"
    );
    let found = parse_installed(&text).unwrap();
    let rows: Vec<(&str, &str)> = found.iter().map(|row| (row.id.name.as_str(), row.version.as_str())).collect();
    assert_eq!(rows, [("KB5034441", id(2).to_string().as_str()), ("update", other)]);
    assert!(parse_installed(&text.replace("\"resultCode\":2", "\"resultCode\":4")).is_err());
}

#[test]
fn a_task_on_the_machine_tells_how_it_stands_and_what_it_came_to() {
    assert_eq!(parse_task("{\"status\":\"running\"}\r\n"), Ok(WindowsTask::Running));
    assert_eq!(
        parse_task("{\"by\":\"Patchloom-x\",\"status\":\"busy\"}"),
        Ok(WindowsTask::Busy { by: "Patchloom-x".into() })
    );
    let over = parse_task(r#"{"status":"over","said":"{\"text\":\"a\\r\\n\",\"code\":1}"}"#).unwrap();
    let WindowsTask::Over { said } = over else { panic!("{over:?}") };
    assert_eq!(parse_outcome(&said), Ok(WindowsOutcome { code: 1, text: "a\r\n".into() }));
    assert!(parse_task("").is_err() && parse_task("{\"status\":\"odd\"}").is_err());
}

#[test]
fn the_code_of_a_run_is_that_of_the_update_that_failed() {
    let locked = format!(
        "{{\"phase\":\"install\",\"resultCode\":4,\"updates\":[{{\"id\":\"{GUID}.1\",\"resultCode\":4,\"hresult\":-2145124330}}]}}"
    );
    assert_eq!(code_of(&format!("$ powershell.exe\n{locked}\n[Exited(0)]")), Some(-2_145_124_330));
    assert_eq!(code_of(&locked.replace("-2145124330", "0")), Some(4));
    assert_eq!(code_of("{\"resultCode\":2,\"updates\":[]}"), None);
    assert_eq!(
        code_of("Error: the server does not answer (0x8024402C)\n[Exited(1)]"),
        Some(0x8024_402C_u32.cast_signed())
    );
    assert_eq!(code_of("Error: no code"), None);
}

#[test]
fn the_way_back_goes_by_dism_where_it_knows_the_package_and_else_by_wusa() {
    let script = uninstall_words("KB5034441").unwrap().pop().unwrap();
    for part in
        ["$k='KB5034441'", "dism.exe /Online /Remove-Package", "wusa.exe /uninstall /kb:5034441 /quiet /norestart"]
    {
        assert!(script.contains(part), "{part}: {script}");
    }
    for wrong in ["KB50;x", "update", "", "KB"] {
        assert!(uninstall_words(wrong).is_err(), "{wrong}");
    }
}
