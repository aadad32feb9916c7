//! Measurements of speed: that they are made, not what they are.

use serde_json::Value;

use crate::list::columns;
use crate::ran::Folder;

#[test]
fn works_are_measured_and_the_table_fits() {
    let folder = Folder::new();
    let text = folder.finish("bench --only step --threads 1,2 --rounds 1").stdout;
    assert!(text.contains("On one thread") && text.contains("On 2 threads"), "{text}");
    for work in ["rotary halves, step, in place", "rotary interleaved→halves, step, out of place"] {
        assert_eq!(text.lines().filter(|line| line.starts_with(work)).count(), 6, "{work}\n{text}");
    }
    let widest = text.lines().map(columns).max().unwrap();
    assert!(widest <= 120, "{widest} columns\n{text}");
}

#[test]
fn measurements_are_data_too() {
    let folder = Folder::new();
    let report: Value = serde_json::from_str(&folder.finish("bench --only step --threads 1 --rounds 2 --json").stdout).unwrap();
    assert!(report["present"].as_array().unwrap().contains(&report["isa"]));
    for row in report["rows"].as_array().unwrap() {
        let ratio = &row["ratio"];
        let [low, median, high] = ["low", "median", "high"].map(|key| ratio[key].as_f64().unwrap());
        assert!(0.0 < low && low <= median && median <= high, "{row}");
    }
}

#[test]
fn what_cannot_be_measured_is_said_in_a_line() {
    let folder = Folder::new();
    folder.refuse("bench --only nothing --rounds 1", &["'nothing'", "--only"]);
    folder.refuse("bench --threads 0", &["at least 1"]);
    folder.refuse("bench --rounds 0", &["at least 1"]);
}
