//! Published models' files, read strictly: `fixtures/` and what each must become.

use super::{LayerPlan, Mode, Part, read};
use std::fmt::Write;
use std::path::Path;

/// A layer in one line.
fn line(plan: &LayerPlan) -> String {
    let (dims, attention) = (plan.dims, &plan.spec.attention);
    let mut text = plan.kind.as_ref().map_or(String::new(), |kind| format!("{kind}: "));
    if !plan.attends {
        return text + "no attention";
    }
    text += &plan.spec.encoding.to_string();
    write!(text, "; {}/{} heads of {}", dims.heads, dims.kv_heads, dims.head_dim).unwrap();
    write!(text, "; scale {}", (attention.scale_for(dims.head_dim) * 1e6).round() / 1e6).unwrap();
    if let Some(window) = attention.window {
        write!(text, "; window {:?} {:?}", window.left.unwrap(), window.right.unwrap()).unwrap();
    }
    if let Some(chunk) = attention.chunk {
        write!(text, "; chunks of {chunk}").unwrap();
    }
    if let Some(temperature) = attention.temperature {
        write!(text, "; {temperature:?}").unwrap();
    }
    if let Some(cap) = attention.softcap {
        write!(text, "; cap {cap}").unwrap();
    }
    if attention.sinks {
        text += "; sinks";
    }
    text
}

/// Runs of one layer: `0-2,4`.
fn runs(layers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &layer in layers {
        match parts.last_mut() {
            Some((_, end)) if *end + 1 == layer => *end = layer,
            _ => parts.push((layer, layer)),
        }
    }
    let one = |(a, b): &(usize, usize)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    parts.iter().map(one).collect::<Vec<_>>().join(",")
}

fn part_text(part: &Part) -> String {
    let place = if part.path.is_empty() {
        String::new()
    } else {
        format!(" at {}", part.path)
    };
    let longest = part.max_len.map_or("-".into(), |n| n.to_string());
    let mut text = format!("  {}{place}: {} layers, up to {longest}", part.model_type, part.layers.len());
    if !part.embeddings.methods.is_empty() {
        text += &format!(", embeddings {}", part.embeddings);
    }
    text.push('\n');
    for (index, plan) in part.plans.iter().enumerate() {
        let layers: Vec<usize> = (0..part.layers.len()).filter(|layer| part.layers[*layer] == index).collect();
        text += &format!(
            "    {}: {}\n",
            if layers.is_empty() { "-".into() } else { runs(&layers) },
            line(plan)
        );
    }
    text
}

/// `fixtures/expected.txt` was read against what is published of each model; `POSENC_WRITE_PAGES=1` writes it anew.
#[test]
fn published_files_are_read_strictly_and_become_what_they_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/fixtures");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| {
            entry
                .unwrap()
                .file_name()
                .into_string()
                .ok()?
                .strip_suffix(".json")
                .map(String::from)
        })
        .collect();
    names.sort();
    assert!(names.len() >= 40);
    let mut text = String::new();
    for name in &names {
        let bytes = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
        text += &format!("{name}\n");
        match read(&bytes, Mode::Strict) {
            Ok(model) => {
                model.parts.iter().for_each(|part| text += &part_text(part));
                model
                    .left
                    .iter()
                    .for_each(|(path, why)| text += &format!("  left: {path}: {why}\n"));
                model.warnings.iter().for_each(|why| text += &format!("  warning: {why}\n"));
            }
            Err(error) => text += &format!("  refused: {error}\n"),
        }
    }
    assert!(!text.contains("refused"), "{text}");
    let path = folder.join("expected.txt");
    if std::env::var_os("POSENC_WRITE_PAGES").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == text,
        "fixtures/expected.txt says something else:\n{text}"
    );
}
