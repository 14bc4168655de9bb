//! `patchloom bench`.

use crate::bed::Bed;

#[test]
fn the_engine_is_measured_beside_the_raw_disk_and_nothing_is_left() {
    let bed = Bed::new();
    let args = ["bench", "engine", "--runs", "20", "--in-flight", "5", "--steps", "3"];
    let figures = bed.run(&[&args[..], &["--json"]].concat()).ends(0).json();
    assert_eq!((&figures["runs"], &figures["steps"]), (&20.into(), &60.into()));
    assert_eq!(figures["raw"].as_array().map(Vec::len), Some(2), "{figures}");
    let left = std::fs::read_dir(bed.data().parent().unwrap()).unwrap().count();
    assert_eq!(left, 0, "the directory of the measurement is removed");
    bed.run(&["bench", "engine", "--runs", "0"]).ends(2);
}
