//! How files of the sidecar come into being: readable by their owner alone, and still there after a power cut.
//!
//! Decides modes and what is synced; knows nothing of what the files hold.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The mode of a file: its owner reads and writes it.
const FILE_MODE: u32 = 0o600;
/// The mode of a directory that had to be made.
const DIRECTORY_MODE: u32 = 0o700;

/// Makes the directories above `path` that are missing, each durable in the one above it.
pub(super) fn create_parents(path: &Path) -> io::Result<()> {
    let parent = parent(path);
    if parent.is_dir() {
        return Ok(());
    }
    create_parents(parent)?;
    match DirBuilder::new().mode(DIRECTORY_MODE).create(parent) {
        // Another process was faster.
        Err(_) if parent.is_dir() => sync_parent(parent),
        Err(error) => Err(error),
        Ok(()) => sync_parent(parent),
    }
}

/// Makes a file that must not exist yet.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
}

/// Makes the entry of `path` in its directory durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

/// The directory that `path` lies in; a bare name lies in the working directory.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn missing_parents_are_made_for_the_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/file");
        create_parents(&path).unwrap();
        create_parents(&path).unwrap();
        create_new(&path).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&root.path().join("a")), 0o700);
        assert_eq!(mode(&root.path().join("a/b")), 0o700);
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_bare_name_lies_in_the_working_directory() {
        assert_eq!(parent(Path::new("sessions.redb")), Path::new("."));
        create_parents(Path::new("sessions.redb")).unwrap();
        sync_parent(Path::new("sessions.redb")).unwrap();
    }
}
