//! What an update changes, by its changelog: the plain case and the traps.

use std::collections::BTreeSet;

use patchloom_domain::{CVES_MAX, ChangelogSpan, between, changelog_entries, cve_ids};

const PLAIN: &str = "\
openssl (3.0.22-1~deb12u2) bookworm-security; urgency=high

  * CVE-2026-0001 (a flaw) and cve-2026-00002.
  * Fix CVE-2026-11111, see CVE-2026-123 (no id) and CVE-20261-0001.

 -- A Person <a@example.org>  Tue, 10 Nov 2026 10:00:00 +0000

openssl (3.0.22-1~deb12u1) bookworm; urgency=MEDIUM

  * CVE-2025-9999

 -- A Person <a@example.org>  Sun, 01 Nov 2026 10:00:00 +0000

openssl (3.0.20-1~deb12u1) bookworm; urgency=critical

  * CVE-2024-0001

 -- A Person <a@example.org>  Fri, 01 Nov 2024 10:00:00 +0000
";

#[track_caller]
fn span(text: &str, installed: &str, candidate: &str, known: Option<&[&str]>) -> ChangelogSpan {
    let known = known.map(|ids| ids.iter().map(|&id| id.to_owned()).collect::<BTreeSet<_>>());
    between(&changelog_entries(text), &installed.parse().unwrap(), &candidate.parse().unwrap(), known.as_ref())
}

#[test]
fn the_ids_between_installed_and_candidate_are_found() {
    let span = span(PLAIN, "3.0.20-1~deb12u1", "3.0.22-1~deb12u2", None);
    assert_eq!(span.cves, ["CVE-2025-9999", "CVE-2026-0001", "CVE-2026-00002", "CVE-2026-11111"]);
    assert_eq!((span.entries, span.urgency.as_deref(), span.descends), (2, Some("high"), true));
    assert_eq!(span.date.as_deref(), Some("Tue, 10 Nov 2026 10:00:00 +0000"));
    assert!(span.notes.is_empty(), "{:?}", span.notes);
}

#[test]
fn entries_above_the_candidate_are_left_out() {
    let span = span(PLAIN, "3.0.20-1~deb12u1", "3.0.22-1~deb12u1", None);
    assert_eq!(span.cves, ["CVE-2025-9999"]);
}

#[test]
fn a_rebuild_of_the_installed_version_is_the_installed_version() {
    let span = span(PLAIN, "3.0.20-1~deb12u1+b6", "3.0.22-1~deb12u2+b1", None);
    assert_eq!((span.entries, span.descends), (2, true));
}

#[test]
fn a_rebased_update_does_not_count_again_what_was_fixed_before() {
    let span = span(PLAIN, "3.0.19-1+deb12u9", "3.0.22-1~deb12u2", Some(&["CVE-2024-0001", "CVE-2026-0001"]));
    assert_eq!(span.cves, ["CVE-2025-9999", "CVE-2026-00002", "CVE-2026-11111"]);
    assert_eq!(span.known_before, ["CVE-2024-0001", "CVE-2026-0001"]);
    assert!(!span.descends);
    assert_eq!(span.notes, ["the candidate does not descend from 3.0.19-1+deb12u9: chosen by version order"]);
}

#[test]
fn a_rebase_that_lists_the_installed_version_still_does_not_count_again_what_that_had_fixed() {
    let text = "rsync (3.5.0-1) s; urgency=high\n\n  * CVE-2024-12084 CVE-2026-0001\n\n -- A <a@b>  x\n\n\
                rsync (3.2.7-1+deb12u2) s; urgency=high\n\n  * CVE-2024-12084\n\n -- A <a@b>  x\n";
    let rebased = span(text, "3.2.7-1+deb12u2", "3.5.0-1", None);
    assert_eq!(
        (rebased.cves, rebased.known_before),
        (vec!["CVE-2026-0001".to_owned()], vec!["CVE-2024-12084".to_owned()])
    );
    let same = span(&text.replace("3.5.0-1", "3.2.7-1+deb12u3"), "3.2.7-1+deb12u2", "3.2.7-1+deb12u3", None);
    assert_eq!(same.cves, ["CVE-2024-12084", "CVE-2026-0001"]);
}

#[test]
fn a_second_fix_of_the_same_id_counts_in_a_true_history() {
    let span = span(PLAIN, "3.0.22-1~deb12u1", "3.0.22-1~deb12u2", Some(&["CVE-2026-0001"]));
    assert!(span.cves.contains(&"CVE-2026-0001".to_owned()));
    assert_eq!(span.known_before, ["CVE-2026-0001"]);
}

#[test]
fn an_unknown_history_says_that_it_may_count_too_much() {
    let span = span(PLAIN, "3.0.19-1+deb12u9", "3.0.22-1~deb12u2", None);
    assert_eq!(span.cves.len(), 5);
    assert!(span.notes[0].contains("some of these may have been fixed before"), "{:?}", span.notes);
}

#[test]
fn native_packages_and_odd_tails_are_read() {
    let text = "tzdata (2026a) stable; urgency=low\n\n  * CVE-2026-1234\n\n -- A <a@b>  Mon, 1\n\nOld Changelog:\nSat Jan 1 1994 me\n\t* (x) y;\n";
    assert_eq!(span(text, "2025b", "2026a", None).cves, ["CVE-2026-1234"]);
    assert_eq!(changelog_entries(text).len(), 1);
    assert_eq!(changelog_entries("no heading at all\n").len(), 0);
}

#[test]
fn a_changelog_without_anything_newer_says_so() {
    let span = span(PLAIN, "3.0.22-1~deb12u2", "3.0.22-1~deb12u3", None);
    assert_eq!((span.entries, span.cves.len(), span.notes.len()), (0, 0, 1));
}

#[test]
fn the_number_of_ids_is_bounded_and_the_newest_are_kept() {
    let ids: Vec<String> = (0..=CVES_MAX).map(|number| format!("CVE-2026-{:05}", 10_000 + number)).collect();
    let text =
        format!("linux (2) s; urgency=high\n\n  {}\n\n -- A <a@b>  x\n\nlinux (1) s; urgency=low\n", ids.join(" "));
    let over = span(&text, "1", "2", None);
    assert_eq!(over.cves.len(), CVES_MAX);
    assert_eq!(over.cves.last(), ids.last());
    assert!(over.notes[0].contains("only the newest"), "{:?}", over.notes);
    let at = text.replace("CVE-2026-10000 ", "");
    assert!(span(&at, "1", "2", None).notes.is_empty());
}

#[test]
fn ids_are_cut_out_of_any_text() {
    let ids = cve_ids("(CVE-2024-1086)xCVE-2023-0464,CVE-2024-1234567-1 CVE-CVE-2022-4450 é CVE-2024 CVE-");
    let expected = ["CVE-2022-4450", "CVE-2023-0464", "CVE-2024-1086", "CVE-2024-1234567"];
    assert_eq!(ids.into_iter().collect::<Vec<_>>(), expected);
}
