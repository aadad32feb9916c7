//! Pictures as files.

use std::fs;
use std::path::Path;

use crate::ran::Folder;

/// A safetensors file: tensors of f32, but for `ids`, which are whole numbers.
fn weights(tensors: &[(&str, &[usize])]) -> Vec<u8> {
    let (mut header, mut data) = (Vec::new(), Vec::new());
    for (name, shape) in tensors {
        let from = data.len();
        let count: usize = shape.iter().product();
        let kind = if *name == "ids" { "I32" } else { "F32" };
        (0..count).for_each(|i| data.extend(((i as f32 * 0.37).sin() + 0.1).to_le_bytes()));
        header.push(format!(
            "\"{name}\":{{\"dtype\":\"{kind}\",\"shape\":{shape:?},\"data_offsets\":[{from},{}]}}",
            data.len()
        ));
    }
    let header = format!("{{{}}}", header.join(","));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

fn model() -> Vec<u8> {
    weights(&[("wpe.weight", &[20, 8]), ("rel.weight", &[9, 2]), ("norm", &[8]), ("ids", &[20])])
}

#[test]
fn pictures_are_listed() {
    let folder = Folder::new();
    let list = folder.finish("show").stdout;
    assert_eq!(list, folder.finish("show --list").stdout);
    for name in ["rotation", "frequencies", "sinusoidal-products", "bias-matrix", "table-similarity"] {
        assert!(
            list.lines().any(|line| line.split_whitespace().next() == Some(name)),
            "{name}\n{list}"
        );
    }
    assert!(list.lines().all(|line| line.chars().count() <= 120), "{list}");
    assert!(folder.all("").is_empty());
}

#[test]
fn one_vector_at_several_positions_is_drawn() {
    let folder = Folder::new();
    let said = folder.finish("show rotation --csv --out pictures").stdout;
    for ending in ["svg", "png", "csv"] {
        assert!(
            said.contains(&Path::new("pictures").join(format!("rotation.{ending}")).display().to_string()),
            "{said}"
        );
    }
    assert_eq!(folder.all("pictures").len(), 3);
    let svg = folder.read("pictures/rotation.svg");
    assert!(svg.starts_with("<svg xmlns") && svg.trim_end().ends_with("</svg>") && svg.contains("prefers-color-scheme: dark"));
    let png = fs::read(folder.path("pictures/rotation.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG") && png.len() > 10_000);
    let csv = folder.read("pictures/rotation.csv");
    assert_eq!(csv.lines().next(), Some("pair,position,angle_radians,first,second"));
    assert_eq!(csv.lines().count(), 1 + 4);
}

#[test]
fn the_same_vector_at_several_frequencies_is_drawn() {
    let folder = Folder::new();
    folder.finish("show frequencies --positions 0,1,4 --head-dim 32 --csv");
    let csv = folder.read("frequencies.csv");
    assert_eq!(csv.lines().count(), 1 + 4 * 3);
    // The fastest pair turns by a radian per position, the slowest by base^(−30/32).
    assert!(csv.lines().any(|line| line.starts_with("0,4,4,")), "{csv}");
    let slowest = csv.lines().last().unwrap().split(',').nth(2).unwrap().parse::<f64>().unwrap();
    assert!((slowest / (4.0 * 10_000f64.powf(-30.0 / 32.0)) - 1.0).abs() < 1e-14);
    assert!(folder.read("frequencies.svg").contains("pair 15"));
}

#[test]
fn all_pictures_are_written_and_written_again() {
    let folder = Folder::new();
    let said = folder.finish("show all --out pictures").stdout;
    let first = folder.all("pictures");
    assert_eq!(first.len(), said.lines().count());
    for name in [
        "bias-matrix-alibi",
        "bias-matrix-t5-encoder",
        "bias-by-distance-clipped",
        "sinusoidal",
        "decay",
        "t5-buckets",
    ] {
        assert!(first.iter().any(|(path, _)| path.ends_with(format!("{name}.png"))), "{name}");
    }
    folder.finish("show all --out pictures");
    assert!(folder.all("pictures") == first, "the same command gives the same files");
    folder.finish("show rotation --out pictures --dark");
    let now = folder.all("pictures");
    let changed: Vec<_> = now.iter().zip(&first).filter(|(now, first)| now != first).collect();
    assert!(changed.len() == 1 && changed[0].0.0.ends_with("rotation.png"));
}

#[test]
fn a_table_of_a_file_is_drawn() {
    let folder = Folder::new();
    folder.write("model.safetensors", model());
    folder.finish("show table-similarity --weights model.safetensors --tensor wpe.weight --csv");
    assert_eq!(folder.read("table-similarity.csv").lines().count(), 1 + 400);
    assert_eq!(folder.read("table-similarity-norms.csv").lines().count(), 1 + 20);
    folder.finish("show bias-matrix --encoding clipped --weights model.safetensors --tensor rel.weight");
    assert!(folder.read("bias-matrix-clipped.svg").contains("rel.weight of model.safetensors"));
    // The only tensor of a file needs no name.
    folder.write("one.safetensors", weights(&[("table", &[5, 3])]));
    folder.finish("show table-similarity --weights one.safetensors");
}

#[test]
fn a_file_that_cannot_be_read_is_said() {
    let folder = Folder::new();
    let whole = model();
    folder.write("model.safetensors", &whole);
    folder.write("short.safetensors", &whole[..whole.len() - 1]);
    folder.write("header.safetensors", &whole[..40]);
    folder.write("empty.safetensors", "");
    folder.write("text.safetensors", "this is no safetensors file, whatever its name says");
    folder.write("none.safetensors", weights(&[]));
    let before = folder.all("");
    let show = |file: &str, tensor: &str, said: &[&str]| {
        let tensor = if tensor.is_empty() {
            String::new()
        } else {
            format!("--tensor {tensor}")
        };
        folder.refuse(&format!("show table-similarity --weights {file} {tensor} --out new"), said);
    };
    show("lost.safetensors", "", &["lost.safetensors", "cannot read the weights"]);
    show(".", "", &["cannot read the weights"]);
    for file in ["short", "header", "empty", "text"] {
        show(
            &format!("{file}.safetensors"),
            "wpe.weight",
            &[file, "safetensors file", "save it again"],
        );
    }
    show("model.safetensors", "", &["4 tensors", "--tensor", "rel.weight, wpe.weight"]);
    show("none.safetensors", "", &["0 tensors"]);
    show(
        "model.safetensors",
        "wpe.wieght",
        &["no tensor `wpe.wieght`", "did you mean `wpe.weight`?", "rel.weight"],
    );
    show("model.safetensors", "ids", &["`ids` holds I32"]);
    show("model.safetensors", "norm", &["shape [8]", "[rows, width]", "--tensor"]);
    let bias = "show bias-matrix --weights model.safetensors --out new";
    folder.refuse(&format!("{bias} --tensor rel.weight"), &["--encoding"]);
    folder.refuse(
        &format!("{bias} --tensor wpe.weight --encoding clipped"),
        &["expected shape", "[20, 8]"],
    );
    folder.refuse(&format!("{bias} --tensor rel.weight --encoding alibi"), &["not one table"]);
    assert!(folder.all("") == before, "nothing is written");
}

#[test]
fn numbers_that_are_none_are_refused() {
    let folder = Folder::new();
    let mut bytes = weights(&[("table", &[2, 2])]);
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    folder.write("nan.safetensors", bytes);
    folder.refuse(
        "show table-similarity --weights nan.safetensors",
        &["NaN at index 3", "`table`", "finite"],
    );
}

#[test]
fn what_is_not_a_picture_is_left_alone() {
    let folder = Folder::new();
    for (name, contents) in [
        ("rotation.svg", "<svg>my own drawing</svg>"),
        ("rotation.png", "notes"),
        ("rotation.csv", "a,b\n1,2\n"),
    ] {
        folder.write(name, contents);
        let before = folder.all("");
        folder.refuse("show rotation --csv", &[name, "not a picture of `posenc show`", "--out"]);
        assert!(folder.all("") == before, "nothing is written");
        fs::remove_file(folder.path(name)).unwrap();
    }
    fs::create_dir(folder.path("rotation.svg")).unwrap();
    folder.refuse("show rotation", &["rotation.svg"]);
}

#[test]
fn a_folder_that_cannot_be_written_is_said() {
    let folder = Folder::new();
    folder.write("file", "not a folder");
    folder.refuse("show rotation --out file", &["cannot write file", "--out"]);
    folder.refuse("show rotation --out file/below", &["file/below", "--out"]);
    #[cfg(target_os = "linux")]
    folder.refuse("show rotation --out /proc/pictures", &["/proc/pictures", "--out"]);
    assert_eq!(folder.all("").len(), 1);
}

#[test]
fn bad_input_is_one_line() {
    let folder = Folder::new();
    folder.refuse(
        "show rotaton",
        &["unknown picture `rotaton`", "did you mean `rotation`?", "bias-matrix"],
    );
    folder.refuse("show xyzzy", &["unknown picture", "known: rotation"]);
    folder.refuse("show rotation --heads 3", &["does not read --heads", "--positions"]);
    folder.refuse("show all --heads 3", &["does not read --heads"]);
    folder.refuse("show rotation --list", &["cannot be used with"]);
    folder.refuse("show rotation --head 3", &["'--head'"]);
    folder.refuse("show rotation --positions 0,x", &["'0,x'", "--positions"]);
    folder.refuse("show rotation --positions=-1", &["--positions", "from 0"]);
    folder.refuse("show rotation --positions NaN", &["--positions"]);
    folder.refuse("show frequencies --head-dim 7", &["7", "even"]);
    folder.refuse("show bias-matrix --encoding rotary", &["unknown bias `rotary`", "alibi-symmetric"]);
    folder.refuse("show bias-matrix --encoding alibbi", &["did you mean `alibi`?"]);
    folder.refuse("show bias-matrix --length 100000", &["--length", "at most 2048"]);
    folder.refuse("show table-similarity", &["--weights", "safetensors"]);
    folder.refuse("show bias-matrix --tensor x", &["--weights"]);
    assert!(folder.all("").is_empty());
}
