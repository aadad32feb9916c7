//! `posenc show`: pictures as files, and what was written.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use posenc::{Init, ParamSpec, Params};
use posenc_lab::LabError;
use posenc_lab::store::write_whole;
use posenc_nn::weights;

use super::print;
use crate::args::show::{PictureOptions, ShowArguments};
use crate::columns::table;
use crate::export::pictures::page::{MARK, Theme, svg};
use crate::export::pictures::png::{SOFTWARE, png};
use crate::export::pictures::{KINDS, Kind, Picture, Tensor};
use crate::failure::Failure;

pub fn run(arguments: &ShowArguments) -> Result<(), Failure> {
    let name = match &arguments.picture {
        Some(name) if !arguments.list => name,
        _ => return print(&list()),
    };
    let options = &arguments.options;
    let pictures = if name.trim().eq_ignore_ascii_case("all") {
        if let Some(option) = options.given().first() {
            return Err(Failure::Usage(format!(
                "`posenc show all` draws every picture with its defaults and does not read --{option}; name one picture"
            )));
        }
        let mut all = Vec::new();
        for kind in KINDS.iter().filter(|kind| !kind.needs_file) {
            all.extend((kind.make)(options, None)?);
        }
        all
    } else {
        let kind = Kind::named(name)?;
        refuse_unread(kind, options)?;
        let tensor = options
            .weights
            .as_deref()
            .map(|path| read(path, options.tensor.as_deref()))
            .transpose()?;
        (kind.make)(options, tensor.as_ref())?
    };
    print(&written(&write(&pictures, arguments)?))
}

/// The pictures with the options that each reads.
fn list() -> String {
    let rows: Vec<_> = KINDS
        .iter()
        .map(|kind| {
            let options: Vec<String> = kind.reads.iter().map(|option| format!("--{option}")).collect();
            [vec![kind.name.to_string()], vec![kind.line.to_string()], vec![options.join(" ")]]
        })
        .collect();
    format!(
        "{}\n`posenc show all` writes every picture that needs no file.",
        table([("picture", 19), ("what it shows", 52), ("options it reads", 42)], &rows)
    )
}

fn refuse_unread(kind: &Kind, options: &PictureOptions) -> Result<(), Failure> {
    match options.given().into_iter().find(|option| !kind.reads.contains(option)) {
        None => Ok(()),
        Some(unread) => Err(Failure::Usage(format!(
            "`posenc show {}` does not read --{unread}; it reads --{}",
            kind.name,
            kind.reads.join(", --")
        ))),
    }
}

/// A tensor of a safetensors file: the named one, or the only one.
fn read(path: &Path, wanted: Option<&str>) -> Result<Tensor, Failure> {
    let refused = |error| Failure::Weights { path: path.into(), error };
    let io = |source| refused(posenc_nn::Error::Io { path: path.into(), source });
    // A device or a pipe may have no end.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(io(io::Error::other("it is not a file")));
    }
    let bytes = fs::read(path).map_err(io)?;
    // A store of nothing takes nothing, and so hears of all that is there.
    let mut nothing: Params<f64> = Params::zeros(&[]).map_err(|error| refused(error.into()))?;
    let present = weights::load(&mut nothing, &bytes).map_err(refused)?;
    let name = match (wanted, present.as_slice()) {
        (Some(wanted), _) if present.iter().any(|name| name == wanted) => wanted.to_string(),
        (None, [only]) => only.clone(),
        _ => {
            return Err(Failure::Tensor {
                path: path.into(),
                wanted: wanted.map(str::to_string),
                present,
            });
        }
    };
    // The reader says which shape it found where another was expected: no table is a single number.
    let mut shape = Vec::new();
    let values = loop {
        let spec = ParamSpec::new(name.clone(), shape.clone(), Init::Zeros);
        let mut store: Params<f64> = Params::zeros(&[spec]).map_err(|error| refused(error.into()))?;
        match weights::load(&mut store, &bytes) {
            Ok(_) => break store.flat().to_vec(),
            Err(posenc_nn::Error::Core(posenc::Error::ParameterShape { given, .. })) if given != shape => shape = given,
            Err(error) => return Err(refused(error)),
        }
    };
    if let Some(index) = values.iter().position(|x| !x.is_finite()) {
        return Err(Failure::Encoding(posenc::Error::Invalid {
            what: "the table",
            given: format!("{} at index {index} of `{name}`", values[index]),
            expected: "finite numbers",
        }));
    }
    Ok(Tensor {
        source: format!("{name} of {}", path.display()),
        shape,
        values,
    })
}

/// The formats of a picture's file.
#[derive(Clone, Copy)]
pub enum Format {
    Svg,
    Png,
}

impl Format {
    /// By a file's name.
    pub fn of(path: &Path) -> Result<Format, Failure> {
        match path
            .extension()
            .and_then(|ending| ending.to_str())
            .map(str::to_lowercase)
            .as_deref()
        {
            Some("svg") => Ok(Format::Svg),
            Some("png") => Ok(Format::Png),
            _ => Err(Failure::Usage(format!("{}: a picture's name ends in .svg or .png", path.display()))),
        }
    }
}

/// One picture under the name that `--plot` asked for; what stands there is replaced if it is a picture of this program.
pub fn write_one(picture: &Picture, path: &Path, format: Format) -> Result<(), Failure> {
    let contents = match format {
        Format::Svg => svg(picture, Theme::Viewer).into_bytes(),
        Format::Png => png(picture, false),
    };
    let option = "--plot";
    write_all(&[(path.to_path_buf(), contents)]).map_err(|failure| match failure {
        Failure::Unwritable { path, source, .. } => Failure::Unwritable { path, source, option },
        Failure::Foreign { path, .. } => Failure::Foreign { path, option },
        other => other,
    })
}

/// That [`write_one`] may write there, before the numbers are made.
pub fn check_one(path: &Path) -> Result<(), Failure> {
    let option = "--plot";
    match is_free(path, &[]) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::Foreign { path: path.into(), option }),
        Err(source) => Err(Failure::Unwritable {
            path: path.into(),
            source,
            option,
        }),
    }
}

/// Draws, then looks at what is there, then writes: nothing is replaced that is not a picture, and nothing is written if anything is refused.
fn write(pictures: &[Picture], arguments: &ShowArguments) -> Result<Vec<PathBuf>, Failure> {
    fs::create_dir_all(&arguments.out).map_err(unwritable(&arguments.out))?;
    let file = |picture: &Picture, suffix: &str, ending: &str| arguments.out.join(format!("{}{suffix}.{ending}", picture.name));
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for picture in pictures {
        files.push((file(picture, "", "svg"), svg(picture, Theme::Viewer).into_bytes()));
        files.push((file(picture, "", "png"), png(picture, arguments.dark)));
        for table in picture.tables.iter().filter(|_| arguments.csv) {
            files.push((file(picture, table.suffix, "csv"), table.csv.clone().into_bytes()));
        }
    }
    write_all(&files)?;
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.to_path_buf();
    move |source| Failure::Unwritable {
        path,
        source,
        option: "--out",
    }
}

/// All of these files, or none where one of them is something else.
fn write_all(files: &[(PathBuf, Vec<u8>)]) -> Result<(), Failure> {
    for (path, contents) in files {
        if !is_free(path, contents).map_err(unwritable(path))? {
            return Err(Failure::Foreign {
                path: path.clone(),
                option: "--out",
            });
        }
    }
    for (path, contents) in files {
        write_whole(path, contents).map_err(|error| match error {
            LabError::FolderUnwritable { path, source } => Failure::Unwritable {
                path,
                source,
                option: "--out",
            },
            other => Failure::Lab(other),
        })?;
    }
    Ok(())
}

/// Nothing has this name, or an earlier picture of the same kind: an SVG and a PNG say who wrote them, and a CSV begins with the same header.
fn is_free(path: &Path, contents: &[u8]) -> io::Result<bool> {
    let mut head = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file.take(1 << 16).read_to_end(&mut head)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let says = |text: &str| head.windows(text.len()).any(|window| window == text.as_bytes());
    Ok(match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => head.starts_with(b"<svg") && says(&format!("Written by {MARK}.")),
        Some("png") => head.starts_with(b"\x89PNG") && says(&format!("{}\0{}", SOFTWARE.0, SOFTWARE.1)),
        _ => {
            let header = contents.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
            head.starts_with(header)
        }
    })
}

fn written(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("wrote {}\n", path.display())).collect()
}
