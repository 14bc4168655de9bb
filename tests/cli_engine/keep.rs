//! `patchloom run prune`, and orders to runs that lie in the archive, as a person meets them.

use crate::bed::Bed;

const SHORT: &str = "name: short\nsteps:\n  a: { set: 1 }\n  b: { needs: a, set: 2 }\n";

/// What would go from the archive.
fn archived(bed: &Bed) -> u64 {
    let said = bed.run(&["run", "prune", "--older-than", "0s", "--dry-run", "--json"]).ends(0);
    assert!(said.err.contains("nothing was changed"), "{said:?}");
    said.json()["runs"].as_u64().unwrap()
}

/// A run that ended and lies in the archive.
fn short(bed: &Bed) -> String {
    let file = bed.file("short.yaml", SHORT);
    let before = if bed.data().exists() { archived(bed) } else { 0 };
    bed.run(&["run", "start", &file, "--wait"]).ends(0);
    let id = bed.run(&["run", "list", "--json"]).ends(0).json()[0]["id"].as_str().unwrap().to_owned();
    for _ in 0..20 {
        if archived(bed) > before {
            return id;
        }
        // Whoever leads brings it there.
        let _ = bed.run(&["run", "resume", &id]);
    }
    panic!("{id} does not come into the archive");
}

#[test]
fn a_run_in_the_archive_goes_again() {
    let bed = Bed::new();
    let id = short(&bed);
    bed.run(&["run", "retry", &id]).fault(1, "E0303", &["the run succeeded"]);
    let said = bed.run(&["run", "rerun", &id, "--from-step", "b", "--wait"]).ends(0);
    assert!(said.out.contains("succeeded"), "{said:?}");
    let history = bed.run(&["run", "history", &id]).ends(0).out;
    assert_eq!(history.matches("was started").count(), 1, "{history}");
}

#[test]
fn runs_are_taken_from_the_archive_as_was_shown() {
    let bed = Bed::new();
    let (first, second) = (short(&bed), short(&bed));
    bed.run(&["run", "prune", "--dry-run"]).ends(2);
    let none = bed.run(&["run", "prune", "--older-than", "1d", "--yes"]).ends(0);
    assert!(none.err.contains("0 runs would go"), "{none:?}");
    for other in [["--workflow", "other"], ["--state", "failed"]] {
        let none = bed.run(&[&["run", "prune", "--older-than", "0s", "--yes"], &other[..]].concat()).ends(0);
        assert!(none.err.contains("0 runs would go"), "{none:?}");
    }
    bed.run(&["run", "prune", "--older-than", "0s"]).fault(2, "E0903", &["--yes"]);
    let gone = bed.run(&["run", "prune", "--older-than", "0s", "--state", "succeeded", "--yes"]).ends(0);
    assert!(gone.out.contains(&first) && gone.err.contains("2 runs went from the archive"), "{gone:?}");
    bed.run(&["run", "show", &second]).fault(4, "E0304", &[]);
    assert_eq!(archived(&bed), 0);
}

#[test]
fn a_compensation_that_failed_is_resolved_by_a_person() {
    let bed = Bed::new();
    let text = "name: hard\nsteps:\n  a: { uses: nobody.serves, compensate: { uses: nobody.undoes, with: { x: \"${{ self.output.none }}\" } } }\n";
    let file = bed.file("hard.yaml", text);
    bed.run(&["run", "start", &file]).ends(0);
    bed.run(&["run", "cancel", "last", "--reason", "enough"]).ends(1);
    let shown = bed.run(&["run", "show", "last", "--json"]).ends(0).json();
    assert_eq!(shown["state"], "compensation_failed", "{shown}");
    let said = bed.run(&["run", "resolve", "last", "a", "--note", "put back by hand"]).ends(0);
    assert!(said.err.contains("counts as undone by hand") && said.out.contains("compensated"), "{said:?}");
    let history = bed.run(&["run", "history", "last"]).ends(0).out;
    assert!(history.contains("put back by hand"), "{history}");
}
