//! Opening the database file, and telling whoever runs the sidecar what is wrong when it does not open.
//!
//! Decides what counts as our file. Never makes a new file in place of one that it cannot read, and after the start never
//! makes one at all: a store that vanished is not an empty store.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError};

use super::files;
use super::redb_tables::{self, Contents, FORMAT};

/// Why a database file does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// Another process, or another store in this one, has the file open.
    #[error(
        "{} is in use by another process; one file serves one sidecar: give each its own `session.path`, or use the redis \
         store",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is no redb database.
    #[error("{} is not a database of the sidecar's ({source}); name another file in `session.path`", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: redb::Error,
    },
    /// The file is a redb database of another program.
    #[error("{} is another program's database; name another file in `session.path`", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error(
        "{} is damaged ({source}); restore it from a backup, or move it away to begin with an empty store: every visitor \
         then gets a new profile",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: redb::Error,
    },
    /// The file was written by a version of the sidecar that this one does not understand.
    #[error(
        "{} is in format {found}, and this version of dressipi-sidecar reads format {FORMAT}; run the version that wrote \
         it, or a later one",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// The format that it is in.
        found: u64,
    },
    /// The directory of the file cannot be made.
    #[error("cannot create the directory of {}: {source}", path.display())]
    CreateDirectory {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// This user may not read and write the file.
    #[error(
        "{} cannot be opened for reading and writing: {source}; the user that runs the sidecar must own it and its \
         directory",
        path.display()
    )]
    Permission {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Anything else.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the library said.
        source: redb::Error,
    },
    /// The writer's thread does not start.
    #[error("cannot start the thread that writes to the store: {source}")]
    Thread {
        /// What the operating system said.
        source: io::Error,
    },
}

/// The database file, and how to open it: at the start, and again after a failure.
pub(super) struct DatabaseFile {
    path: PathBuf,
    cache_bytes: usize,
    connect: Box<Connect>,
}

/// Hands an open file to redb. A test puts a failing disk here.
pub(super) type Connect = dyn Fn(&Builder, File) -> Result<Database, DatabaseError> + Send;

// === impl DatabaseFile ===

impl DatabaseFile {
    pub(super) fn new(path: &Path, cache_bytes: usize) -> Self {
        Self::with_connect(path, cache_bytes, |builder, file| {
            builder.create_with_backend(FileBackend::new(file)?)
        })
    }

    pub(super) fn with_connect(
        path: &Path,
        cache_bytes: usize,
        connect: impl Fn(&Builder, File) -> Result<Database, DatabaseError> + Send + 'static,
    ) -> Self {
        Self {
            path: path.to_owned(),
            cache_bytes,
            connect: Box::new(connect),
        }
    }

    /// Opens the file; makes it, and the directories above it, if it does not exist.
    pub(super) fn open_or_create(&self) -> Result<Database, OpenStoreError> {
        files::create_parents(&self.path).map_err(|source| OpenStoreError::CreateDirectory {
            path: self.path.clone(),
            source,
        })?;
        let file = match files::create_new(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.existing(),
            created => created.and_then(|file| files::sync_parent(&self.path).map(|()| file)),
        };
        let database = self.connect(file.map_err(|error| self.explain(error.into()))?)?;
        match self.contents(&database)? {
            Contents::Nothing => self.initialise(&database)?,
            contents => self.accept(contents)?,
        }
        Ok(database)
    }

    /// Opens the file once more, after a failure.
    pub(super) fn reopen(&self) -> Result<Database, OpenStoreError> {
        let file = self
            .existing()
            .map_err(|error| self.explain(error.into()))?;
        let empty = file.metadata().is_ok_and(|metadata| metadata.len() == 0);
        if empty {
            let emptied = io::Error::new(io::ErrorKind::InvalidData, "it is empty now");
            return Err(self.explain(emptied.into()));
        }
        let database = self.connect(file)?;
        self.accept(self.contents(&database)?)?;
        Ok(database)
    }

    fn existing(&self) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(&self.path)
    }

    fn connect(&self, file: File) -> Result<Database, OpenStoreError> {
        let mut builder = Builder::new();
        builder.set_cache_size(self.cache_bytes);
        let told = Cell::new(false);
        let path = self.path.clone();
        builder.set_repair_callback(move |_| {
            if !told.replace(true) {
                tracing::warn!(path = %path.display(), "the store was not closed cleanly; recovering it");
            }
        });
        // redb trusts a file that says it was closed cleanly, and may panic where one lies.
        catch_unwind(AssertUnwindSafe(|| (self.connect)(&builder, file)))
            .unwrap_or_else(|_| {
                Err(StorageError::Corrupted("redb panicked while opening it".to_owned()).into())
            })
            .map_err(|error| self.explain(error.into()))
    }

    fn contents(&self, database: &Database) -> Result<Contents, OpenStoreError> {
        let contents = || redb_tables::contents(&database.begin_read()?);
        catch_unwind(AssertUnwindSafe(contents))
            .unwrap_or_else(|_| {
                Err(redb::Error::Corrupted(
                    "redb panicked while reading it".to_owned(),
                ))
            })
            .map_err(|error| self.explain(error))
    }

    fn accept(&self, contents: Contents) -> Result<(), OpenStoreError> {
        let path = self.path.clone();
        match contents {
            Contents::Store(FORMAT) => Ok(()),
            Contents::Store(found) => Err(OpenStoreError::UnknownFormat { path, found }),
            Contents::Nothing | Contents::Foreign => Err(OpenStoreError::Foreign { path }),
        }
    }

    fn initialise(&self, database: &Database) -> Result<(), OpenStoreError> {
        let initialise = || {
            let txn = database.begin_write()?;
            redb_tables::initialise(&txn)?;
            txn.commit()?;
            Ok(())
        };
        initialise().map_err(|error| self.explain(error))
    }

    fn explain(&self, error: redb::Error) -> OpenStoreError {
        let path = self.path.clone();
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
                OpenStoreError::InUse { path }
            }
            redb::Error::Corrupted(_) => OpenStoreError::Corrupt {
                path,
                source: error,
            },
            redb::Error::Io(source) => match source.kind() {
                io::ErrorKind::InvalidData => OpenStoreError::NotADatabase {
                    path,
                    source: source.into(),
                },
                // redb reads its header before it has looked at the length.
                io::ErrorKind::UnexpectedEof => OpenStoreError::Corrupt {
                    path,
                    source: source.into(),
                },
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    OpenStoreError::Permission { path, source }
                }
                _ => OpenStoreError::Open {
                    path,
                    source: source.into(),
                },
            },
            source => OpenStoreError::Open { path, source },
        }
    }
}
