//! Files that are there whole or not at all, and what a program says of one that is not.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::results::SCHEMA;

/// Writes a file so that a reader, at any time and after any kill, finds the old one or the new one: a temporary file beside it, flushed to the disk, takes its name.
///
/// # Errors
/// The file cannot be written; what stood under the name is untouched.
pub fn write_whole(path: &Path, contents: &[u8]) -> Result<(), LabError> {
    let temporary = temporary_path(path);
    let written = File::create(&temporary)
        .and_then(|mut file| {
            file.write_all(contents)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = written {
        // Full disk, for instance. What stood under the name is untouched; the part that was written is of no use.
        let _ = fs::remove_file(&temporary);
        return Err(LabError::FolderUnwritable { path: path.into(), source });
    }
    // The new name is an entry of the folder, which is flushed separately. Not every system lets one open a folder, and the file is whole without it.
    if let Some(folder) = path.parent()
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// The same, of data as JSON.
pub(super) fn write_json(path: &Path, data: &impl Serialize) -> Result<(), LabError> {
    let mut json = serde_json::to_vec_pretty(data).expect("plain data with string keys always becomes JSON");
    json.push(b'\n');
    write_whole(path, &json)
}

/// Reads such a file. `None` if there is none; an error, with `remedy`, if it is not what was written.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, remedy: &'static str) -> Result<Option<T>, LabError> {
    // Read before the rest, so that a file of a later schema is called that and not damaged.
    #[derive(Deserialize)]
    struct Head {
        schema: u64,
    }

    let damaged = |reason: String| LabError::Damaged {
        path: path.into(),
        reason,
        remedy,
    };
    let json = match fs::read(path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(damaged(error.to_string())),
    };
    let head: Head = serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
    if head.schema != u64::from(SCHEMA) {
        return Err(LabError::OtherSchema {
            path: path.into(),
            given: head.schema,
            expected: SCHEMA,
        });
    }
    serde_json::from_slice(&json).map(Some).map_err(|error| damaged(error.to_string()))
}

/// Where a file is written before it takes its name. The leading dot and the ending keep it out of what is read.
pub(super) fn temporary_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Whether a file can be made in a folder.
pub(super) fn try_writing(folder: &Path) -> Result<(), LabError> {
    let trial = temporary_path(&folder.join("trial"));
    let tried = File::create(&trial).and_then(|_| fs::remove_file(&trial));
    tried.map_err(|source| LabError::FolderUnwritable {
        path: folder.into(),
        source,
    })
}

/// Removes what a killed program left half-written. Call it only with the folder locked: another program's half is not ours to remove.
pub(super) fn remove_temporary(folder: &Path) {
    for path in entries(folder) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') && name.ends_with(".tmp") {
            // If it cannot be removed it stays: it is never read.
            let _ = fs::remove_file(&path);
        }
    }
}

/// The finished run files, in the order of their names.
pub(super) fn json_files(folder: &Path) -> Vec<PathBuf> {
    let is_ours = |path: &PathBuf| {
        path.extension().is_some_and(|e| e == "json") && path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'))
    };
    let mut files: Vec<PathBuf> = entries(folder).into_iter().filter(is_ours).collect();
    files.sort();
    files
}

/// Holds a folder for this process; the system lets go of it however the process ends. `None` on a file system without locks.
pub(super) fn lock(folder: &Path) -> Result<Option<File>, LabError> {
    let path = folder.join(".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| LabError::FolderUnwritable {
            path: folder.into(),
            source,
        })?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(LabError::FolderInUse { path: folder.into() }),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|all| all.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}
