//! What commands do with a model's own file.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use posenc::config::{Mode, read};
use posenc::explain::explain_model;

use super::{print, print_json};
use crate::args::explain::ExplainArguments;
use crate::export::pictures::{Picture, model};
use crate::failure::Failure;

/// Bytes of a file that are read at most: a configuration is far below, and the head of a GGUF with its tokenizer too.
const LONGEST: u64 = 256 << 20;

pub fn explain(path: &Path, arguments: &ExplainArguments) -> Result<(), Failure> {
    refuse_unread(arguments)?;
    let plot = arguments
        .plot
        .as_deref()
        .map(|plot| Ok::<_, Failure>((plot, super::show::Format::of(plot)?)))
        .transpose()?;
    let path = file(path);
    let bytes = bytes(&path)?;
    let mode = if arguments.lenient { Mode::Lenient } else { Mode::Strict };
    let model = read(&bytes, mode).map_err(|error| Failure::Config {
        path: path.clone(),
        error: Box::new(error),
        lenient: arguments.lenient,
    })?;
    let name = path.display().to_string();
    let explanation = explain_model(&model, &name, arguments.length)?;
    if let Some((plot, format)) = plot {
        let picture: Picture = model::wavelengths(&explanation)?;
        super::show::write_one(&picture, plot, format)?;
    }
    if arguments.json {
        return print_json(&explanation);
    }
    let mut text = explanation.text(arguments.lang);
    if let Some((plot, _)) = plot {
        text += &format!("\nwrote {}\n", plot.display());
    }
    print(&text)
}

/// What a file says itself, or an encoding alone has.
fn refuse_unread(arguments: &ExplainArguments) -> Result<(), Failure> {
    let of_an_encoding = [
        ("trained", arguments.trained.is_some()),
        ("model-dim", arguments.model_dim.is_some()),
        ("heads", arguments.heads.is_some()),
        ("formula", arguments.formula),
    ];
    match of_an_encoding.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((option, _)) => Err(Failure::Usage(format!(
            "--{option} is for an encoding; a model's file says it itself: leave it out"
        ))),
    }
}

/// A folder stands for the configuration in it: transformers' name, else Meta's and Mistral's.
pub fn file(path: &Path) -> PathBuf {
    if !path.is_dir() {
        return path.into();
    }
    let params = path.join("params.json");
    let config = path.join("config.json");
    if params.is_file() && !config.exists() { params } else { config }
}

/// The bytes of a file, at most as many as a configuration can have.
pub fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |source| Failure::Unreadable { path: path.into(), source };
    // A device or a pipe may have no end.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is not a file")));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(LONGEST).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    Ok(bytes)
}
