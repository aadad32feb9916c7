//! Every picture: whole, labelled, inside its sheet, and with the numbers that it should have.

use std::f64::consts::TAU;

use posenc::t5_bucket;
use posenc_lab::bench::{Options, Report, run};
use resvg::usvg::{self, Group, Node, Rect, Tree, roxmltree};

use super::page::{Theme, svg};
use super::png::png;
use super::*;
use crate::args::units::List;

fn nothing() -> PictureOptions {
    PictureOptions::default()
}

/// A table whose rows turn slowly, the last ones unlike the others.
fn table(rows: usize, width: usize) -> Tensor {
    let value = |i: usize| {
        let (row, column) = (i / width, i % width);
        let trained = if row < rows * 3 / 4 { 1.0 } else { 0.1 };
        trained * ((row as f64) * 0.1 / (1.0 + column as f64) + column as f64).sin()
    };
    Tensor {
        source: "wpe.weight of model.safetensors".into(),
        shape: vec![rows, width],
        values: (0..rows * width).map(value).collect(),
    }
}

fn make(name: &str, options: &PictureOptions) -> Vec<Picture> {
    let kind = Kind::named(name).unwrap();
    let table = table(40, 12);
    (kind.make)(options, kind.needs_file.then_some(&table)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn all(options: &PictureOptions) -> Vec<Picture> {
    KINDS.iter().flat_map(|kind| make(kind.name, options)).collect()
}

fn refused(name: &str, options: &PictureOptions) -> String {
    match (Kind::named(name).unwrap().make)(options, None) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("{name} takes {options:?}"),
    }
}

/// What a token costs as sequences and batches grow: real measurements of a work that takes little time.
fn grown() -> Report {
    let options = Options {
        only: Some("new token's rotation".into()),
        threads: vec![1],
        rounds: 1,
        growth: true,
    };
    run(&options, |_| {}).unwrap()
}

/// The numbers of a table, row by row; `true` and `false` are 1 and 0.
fn numbers(table: &Table) -> Vec<Vec<f64>> {
    let number = |cell: &str| match cell {
        "true" => 1.0,
        "false" => 0.0,
        cell => cell.parse().unwrap(),
    };
    let rows = table.csv.lines().skip(1);
    rows.map(|row| row.split(',').map(number).collect()).collect()
}

fn read(text: &str) -> Tree {
    let mut options = usvg::Options {
        font_family: "DejaVu Sans".into(),
        ..usvg::Options::default()
    };
    options
        .fontdb_mut()
        .load_font_data(include_bytes!("../../../assets/DejaVuSans-subset.ttf").to_vec());
    options.fontdb_mut().set_sans_serif_family("DejaVu Sans");
    Tree::from_str(text, &options).unwrap()
}

/// Every text with the room that it takes on the sheet.
fn texts(group: &Group, found: &mut Vec<(String, Rect)>) {
    for node in group.children() {
        match node {
            Node::Group(group) => texts(group, found),
            Node::Text(text) => {
                let words = text.chunks().iter().map(|chunk| chunk.text()).collect();
                found.push((words, text.abs_bounding_box()));
            }
            _ => {}
        }
    }
}

#[test]
fn every_picture_is_whole_and_small() {
    for picture in all(&nothing()) {
        let name = &picture.name;
        for theme in [Theme::Viewer, Theme::Light, Theme::Dark] {
            let text = svg(&picture, theme);
            let document = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(document.root_element().tag_name().name(), "svg");
            assert!(text.len() < 300_000, "{name}: {} bytes", text.len());
            for bad in ["NaN", "inf\"", "inf ", "href", "var("] {
                assert!(!text.contains(bad), "{name}: {bad}");
            }
            let titles = document
                .descendants()
                .filter(|node| node.attribute("class") == Some("title"))
                .filter_map(|node| node.text())
                .collect::<Vec<_>>();
            assert!(
                titles.len() >= 2 && titles.iter().all(|title| !title.is_empty()),
                "{name}: {titles:?}"
            );
            let ticks = document
                .descendants()
                .filter(|node| node.attribute("class").is_some_and(|class| class.starts_with("tick")));
            assert!(ticks.count() >= 2, "{name}");
        }
        assert!(!picture.notes.is_empty() && !picture.title.is_empty());
    }
}

#[test]
fn texts_lie_on_the_sheet_and_not_on_each_other() {
    for picture in all(&nothing()).into_iter().chain([growth::lines(&grown())]) {
        let tree = read(&svg(&picture, Theme::Light));
        let (width, height) = (tree.size().width(), tree.size().height());
        let mut found = Vec::new();
        texts(tree.root(), &mut found);
        assert!(found.len() > 8, "{}", picture.name);
        for (i, (text, room)) in found.iter().enumerate() {
            assert!(
                room.left() >= 0.0 && room.top() >= 0.0 && room.right() <= width && room.bottom() <= height,
                "{}: {text} leaves the sheet: {room:?}",
                picture.name
            );
            for (other, there) in &found[..i] {
                // A line's box is higher than its letters: a touch is no overlap.
                let apart = room.left() > there.right() - 1.0
                    || there.left() > room.right() - 1.0
                    || room.top() > there.bottom() - 4.0
                    || there.top() > room.bottom() - 4.0;
                assert!(apart, "{}: {text} lies on {other}: {room:?}, {there:?}", picture.name);
            }
        }
    }
}

#[test]
fn every_measurement_is_a_point_in_both_quantities() {
    let report = grown();
    let picture = growth::lines(&report);
    assert_eq!(picture.tables[0].csv.lines().count(), 1 + report.rows.len());
    let text = svg(&picture, Theme::Light);
    for bad in ["NaN", "inf\"", "inf "] {
        assert!(!text.contains(bad), "{bad}");
    }
    // A marker each, and one beside the name of the line in the two panels that name lines.
    let dots = text.matches("class=\"dot\"").count();
    assert_eq!(dots, 2 * report.rows.len() + 2);
}

/// What the font was reduced to, as `assets/LICENSE-DejaVu` says.
#[test]
fn the_font_has_every_character() {
    let licence = include_str!("../../../assets/LICENSE-DejaVu");
    let ranges = licence
        .split("--unicodes='")
        .nth(1)
        .and_then(|rest| rest.split('\'').next())
        .unwrap();
    let code = |text: &str| u32::from_str_radix(text, 16).unwrap();
    let ranges: Vec<(u32, u32)> = ranges
        .split(',')
        .map(|range| range.split_once('-').unwrap_or((range, range)))
        .map(|(low, high)| (code(low), code(high)))
        .collect();
    for picture in all(&nothing()) {
        for c in svg(&picture, Theme::Light).chars().filter(|c| *c != '\n') {
            assert!(
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&u32::from(c))),
                "{}: {c}",
                picture.name
            );
        }
    }
}

#[test]
fn pixels_show_the_sheet_at_twice_its_size() {
    for name in ["rotation", "decay", "bias-matrix", "table-similarity"] {
        let picture = &make(name, &nothing())[0];
        let tree = read(&svg(picture, Theme::Light));
        for dark in [false, true] {
            let bytes = png(picture, dark);
            let mut reader = ::png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            let info = reader.next_frame(&mut pixels).unwrap();
            assert_eq!(
                (f64::from(info.width), f64::from(info.height)),
                (2.0 * f64::from(tree.size().width()), 2.0 * f64::from(tree.size().height()))
            );
            let paper: [u8; 3] = if dark { [0x14, 0x17, 0x1b] } else { [255, 255, 255] };
            assert_eq!(pixels[..3], paper);
            let (pixels, _) = pixels.as_chunks::<3>();
            let inked = pixels.iter().filter(|pixel| **pixel != paper).count();
            assert!(
                inked * 100 > pixels.len() && inked < pixels.len(),
                "{name}: {inked} of {}",
                pixels.len()
            );
            let mut colours: Vec<[u8; 3]> = pixels.to_vec();
            colours.sort_unstable();
            colours.dedup();
            assert!(colours.len() > 20, "{name}: {} colours", colours.len());
        }
    }
}

#[test]
fn one_vector_is_black_then_red_blue_and_green() {
    let picture = &make("rotation", &nothing())[0];
    assert_eq!(page::ARROWS[..4], ["ink", "red", "c0", "c2"]);
    let text = svg(picture, Theme::Light);
    for rule in [
        ".p0 .shaft { stroke: #1b1f24",
        ".p1 .shaft { stroke: #c8102e",
        ".p2 .shaft { stroke: #0069b0",
        ".p3 .shaft { stroke: #14795a",
    ] {
        assert!(text.contains(rule), "{rule}");
    }
    let rows = numbers(&picture.tables[0]);
    assert_eq!(rows.len(), 4);
    for (p, row) in rows.iter().enumerate() {
        let p = p as f64;
        assert_eq!(row[1], p);
        assert!((row[3] - p.cos()).abs() < 1e-15 && (row[4] - p.sin()).abs() < 1e-15);
    }
}

#[test]
fn frequencies_turn_at_their_speeds() {
    let picture = &make("frequencies", &nothing())[0];
    let rows = numbers(&picture.tables[0]);
    assert_eq!(rows.len(), 4 * 4);
    let pairs: Vec<f64> = rows.iter().step_by(4).map(|row| row[0]).collect();
    assert_eq!(pairs, [0.0, 8.0, 16.0, 31.0]);
    for row in &rows {
        let angle = row[1] * 10_000f64.powf(-2.0 * row[0] / 64.0);
        // A power and a product, at most 50 radians.
        assert!((row[2] - angle).abs() <= 50.0 * 4.0 * f64::EPSILON && (row[3] - angle.cos()).abs() < 50.0 * 8.0 * f64::EPSILON);
    }
    assert_eq!(numbers(&picture.tables[1]).len(), 4 * 401);
}

/// Values computed apart from this code, to the digits that are written.
#[test]
fn decay_has_the_known_values() {
    let picture = &make("decay", &nothing())[0];
    let rows = numbers(&picture.tables[0]);
    assert_eq!(rows.len(), 2 * 257);
    for (head_dim, distance, bound) in [
        (128.0, 0.0, 32.5),
        (128.0, 10.0, 17.954),
        (128.0, 50.0, 12.629),
        (128.0, 100.0, 10.227),
        (128.0, 200.0, 7.245),
        (128.0, 250.0, 6.548),
        (64.0, 0.0, 16.5),
        (64.0, 50.0, 5.733),
        (64.0, 100.0, 7.465),
        (64.0, 250.0, 3.669),
    ] {
        let row = rows.iter().find(|row| row[..2] == [head_dim, distance]).unwrap();
        assert!((row[2] - bound).abs() <= 5e-4, "{row:?}");
        assert!(row[3].abs() <= 1.0);
    }
}

#[test]
fn wavelengths_are_two_pi_times_a_power_of_the_base() {
    let options = PictureOptions {
        base: Some(List(vec![10_000.0, 500_000.0])),
        trained: Some(4096),
        ..nothing()
    };
    let rows = numbers(&make("wavelengths", &options)[0].tables[0]);
    assert_eq!(rows.len(), 2 * 64);
    for row in rows {
        let known = TAU * row[0].powf(2.0 * row[1] / 128.0);
        // Three roundings, and those of the power.
        assert!((row[3] / known - 1.0).abs() < 8.0 * f64::EPSILON, "{row:?}");
        assert!((row[4] * row[3] / 4096.0 - 1.0).abs() < 4.0 * f64::EPSILON);
    }
    // Document 004's model.
    assert!(make("wavelengths", &nothing())[0].notes[0].contains("23 of 64"));
}

#[test]
fn the_staircase_is_that_of_the_buckets() {
    let rows = numbers(&make("t5-buckets", &nothing())[0].tables[0]);
    assert_eq!(rows.len(), 3 * 257 - 1);
    for row in &rows {
        assert_eq!(row[2], t5_bucket(-row[1] as i64, row[0] == 1.0, 32, 128).unwrap() as f64, "{row:?}");
    }
    assert!(rows.contains(&vec![0.0, 19.0, 17.0]) && rows.contains(&vec![1.0, -5.0, 21.0]));
}

#[test]
fn sinusoids_and_their_products_are_complete() {
    let options = PictureOptions {
        length: Some(9),
        model_dim: Some(6),
        ..nothing()
    };
    let rows = numbers(&make("sinusoidal", &options)[0].tables[0]);
    assert_eq!(rows.len(), 9 * 6);
    assert_eq!(rows[7], [1.0, 1.0, 1f64.cos()]);
    let rows = numbers(&make("sinusoidal-products", &options)[0].tables[0]);
    assert_eq!(rows.len(), 81);
    // sin² + cos² = 1 in each of three pairs: three roundings.
    assert!(
        rows.iter()
            .filter(|row| row[0] == row[1])
            .all(|row| (row[2] - 3.0).abs() < 4.0 * 3.0 * f64::EPSILON)
    );
}

#[test]
fn every_bias_has_both_pictures() {
    let names = posenc::curves::biases().unwrap();
    let options = PictureOptions {
        heads: Some(3),
        length: Some(10),
        ..nothing()
    };
    for (kind, rows_of) in [("bias-matrix", [3 * 100, 3 * 100]), ("bias-by-distance", [3 * 10, 3 * 19])] {
        let pictures = make(kind, &options);
        assert_eq!(pictures.len(), names.len());
        for (picture, name) in pictures.iter().zip(&names) {
            assert_eq!(picture.name, format!("{kind}-{name}"));
            let causal = ["alibi", "t5"].contains(name);
            assert_eq!(numbers(&picture.tables[0]).len(), rows_of[usize::from(!causal)], "{name}");
            assert_eq!(svg(picture, Theme::Light).contains("hatch\" d"), causal && kind == "bias-matrix");
        }
    }
    let alibi = PictureOptions {
        encoding: Some("ALiBi".into()),
        ..options.clone()
    };
    // Slopes of three heads: those of two, 2⁻⁴ and 2⁻⁸, and the first of four, 2⁻².
    let rows = numbers(&make("bias-by-distance", &alibi)[0].tables[0]);
    assert_eq!(rows[9], [0.0, 9.0, -9.0 / 16.0]);
    assert_eq!(rows[29], [2.0, 9.0, -9.0 / 4.0]);
    let drawn = |seed| {
        let options = PictureOptions {
            encoding: Some("clipped".into()),
            seed: Some(seed),
            ..options.clone()
        };
        make("bias-matrix", &options)[0].tables[0].csv.clone()
    };
    assert!(drawn(1) == drawn(1) && drawn(1) != drawn(2));
}

#[test]
fn a_table_of_a_file_is_drawn_as_it_is() {
    let options = PictureOptions {
        encoding: Some("clipped".into()),
        length: Some(6),
        ..nothing()
    };
    let tensor = Tensor {
        source: "bias of file".into(),
        shape: vec![5, 1],
        values: vec![1.0, 2.0, 3.0, 4.0, 5.0],
    };
    let pictures = (Kind::named("bias-by-distance").unwrap().make)(&options, Some(&tensor)).unwrap();
    let biases: Vec<f64> = numbers(&pictures[0].tables[0]).iter().map(|row| row[2]).collect();
    assert_eq!(biases, [5.0, 5.0, 5.0, 5.0, 4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0]);
    assert!(pictures[0].notes[0].contains("bias of file"));

    let similar = &make("table-similarity", &nothing())[0];
    let rows = numbers(&similar.tables[0]);
    assert_eq!((rows.len(), similar.tables.len()), (40 * 40, 2));
    // 12 products of unit vectors.
    assert!(rows.iter().all(|row| row[2].abs() <= 1.0 + 16.0 * f64::EPSILON));
    assert!(
        rows.iter()
            .filter(|row| row[0] == row[1])
            .all(|row| (row[2] - 1.0).abs() < 16.0 * f64::EPSILON)
    );
    assert_eq!(numbers(&similar.tables[1]).len(), 40);
    let first = PictureOptions {
        length: Some(7),
        ..nothing()
    };
    assert_eq!(numbers(&make("table-similarity", &first)[0].tables[0]).len(), 49);
}

#[test]
fn the_smallest_and_largest_pictures_are_pictures() {
    for length in [1, 2, 3, 200] {
        let options = PictureOptions {
            length: Some(length),
            trained: Some(1),
            heads: Some(if length == 200 { 20 } else { 1 }),
            model_dim: Some(1 + length),
            positions: Some(List(vec![0.0; 1 + length.min(7)])),
            head_dim: Some(List(vec![2])),
            base: Some(List(vec![1.0])),
            ..nothing()
        };
        for picture in all(&options) {
            let text = svg(&picture, Theme::Light);
            roxmltree::Document::parse(&text).unwrap();
            assert!(
                !text.contains("NaN") && !text.contains("inf\"") && !text.contains("infL"),
                "{}: {text}",
                picture.name
            );
            assert!(text.len() < 1_000_000, "{}: {}", picture.name, text.len());
        }
    }
    png(&make("table-similarity", &nothing())[0], true);
}

#[test]
fn what_cannot_be_drawn_is_refused() {
    let with = |change: fn(&mut PictureOptions)| {
        let mut options = nothing();
        change(&mut options);
        options
    };
    for (name, options, said) in [
        ("rotation", with(|o| o.positions = Some(List(vec![f64::NAN]))), "--positions"),
        ("rotation", with(|o| o.positions = Some(List(vec![0.0; 9]))), "at most 8"),
        ("frequencies", with(|o| o.head_dim = Some(List(vec![3]))), "even"),
        ("frequencies", with(|o| o.base = Some(List(vec![0.0]))), "--base"),
        ("wavelengths", with(|o| o.trained = Some(0)), "--trained"),
        ("decay", with(|o| o.length = Some(usize::MAX)), "--length"),
        ("sinusoidal", with(|o| o.length = Some(0)), "--length"),
        ("sinusoidal", with(|o| o.model_dim = Some(usize::MAX)), "--model-dim"),
        ("sinusoidal-products", with(|o| o.base = Some(List(vec![1e4, 1e5]))), "one base"),
        ("bias-matrix", with(|o| o.encoding = Some("rotary".into())), "unknown bias"),
        ("bias-matrix", with(|o| o.heads = Some(usize::MAX)), "--heads"),
        ("bias-matrix", with(|o| (o.heads, o.length) = (Some(1024), Some(2048))), "16777216"),
        ("bias-by-distance", with(|o| o.trained = Some(usize::MAX)), "--trained"),
        ("t5-buckets", with(|o| o.length = Some(1 << 40)), "--length"),
        ("table-similarity", nothing(), "--weights"),
    ] {
        let line = refused(name, &options);
        assert!(line.contains(said), "{name}: {said} is not in: {line}");
    }
    assert!(Kind::named("rotatoin").is_err_and(|error| error.to_string().contains("did you mean `rotation`?")));
}

/// The pages show what the command writes today.
#[test]
fn the_pages_pictures_are_up_to_date() {
    for (name, committed) in [
        ("rotation", include_str!("../../../../../docs/pictures/rotation.svg")),
        ("frequencies", include_str!("../../../../../docs/pictures/frequencies.svg")),
    ] {
        let written = svg(&make(name, &nothing())[0], Theme::Viewer);
        assert!(
            written == committed,
            "write docs/pictures/{name}.svg again: posenc show {name} --out docs/pictures"
        );
    }
}
