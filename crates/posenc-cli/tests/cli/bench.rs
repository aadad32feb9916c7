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
    let machine = &report["machine"];
    assert!(machine["present"].as_array().unwrap().contains(&machine["isa"]) && machine["cores"].as_u64().unwrap() >= 1);
    for row in report["rows"].as_array().unwrap() {
        let ratio = &row["ratio"];
        let [low, median, high] = ["low", "median", "high"].map(|key| ratio[key].as_f64().unwrap());
        assert!(0.0 < low && low <= median && median <= high, "{row}");
    }
}

#[test]
fn the_machine_and_how_fast_it_moves_memory_stand_above() {
    let folder = Folder::new();
    let text = folder.finish("bench --only bandwidth --threads 1 --rounds 1").stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("core") && lines[0].contains("runs "), "{text}");
    assert!(lines[2] == "On one thread" && lines[3].ends_with("512 MiB"), "{text}");
    for kind in [
        "  read ",
        "  write (memset)",
        "  write to new memory",
        "  both (x *= c)",
        "  both (copy)",
    ] {
        assert_eq!(lines.iter().filter(|line| line.starts_with(kind)).count(), 1, "{kind}\n{text}");
    }
    assert!(lines.iter().all(|line| columns(line) <= 120), "{text}");
}

#[test]
fn growth_is_drawn() {
    let folder = Folder::new();
    let of = "bench --growth --only new --threads 1 --rounds 1 --plot";
    let text = folder.finish(&format!("{of} growth.svg")).stdout;
    assert!(text.ends_with("wrote growth.svg\n"), "{text}");
    for shape in ["8×32×1×128", "64×32×1×128", "1×16×1×131072", "64×16×1×2048"] {
        assert!(text.contains(shape), "{shape}\n{text}");
    }
    let svg = folder.read("growth.svg");
    for said in ["131072", "s rotation", "s bias row", "against the limits"] {
        assert!(svg.contains(said), "{said}");
    }
    folder.write("mine.svg", "<svg/>");
    folder.refuse(&format!("{of} mine.svg"), &["mine.svg", "--plot"]);
    folder.refuse(&format!("{of} growth.jpg"), &[".svg or .png"]);
    folder.refuse("bench --plot growth.svg", &["--growth"]);
}

#[test]
fn what_cannot_be_measured_is_said_in_a_line() {
    let folder = Folder::new();
    folder.refuse("bench --only nothing --rounds 1", &["'nothing'", "--only"]);
    folder.refuse("bench --threads 0", &["at least 1"]);
    folder.refuse("bench --rounds 0", &["at least 1"]);
}
