//! Hands the listening sockets to a successor, so that one process takes another's place on a host and nobody is refused.
//!
//! The successor comes first: it is given the sockets, starts with them, and says so; only then does the predecessor drain. If it never
//! says so, nothing has happened. Both serve for a moment, as replicas do: so the store must be one that they can share.
//!
//! ```text
//! predecessor                         successor
//!   listens at server.upgrade_socket    serve --upgrade
//!        ◄──────────── connects ────────────
//!        ── keys in JSON, sockets (SCM_RIGHTS) ►  starts
//!        ◄──────────── one byte ────────────      serves, offers its own sockets
//!   drains, exits 0
//! ```

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Sockets by what they are for: the key in the configuration, and the address.
pub(super) type Sockets = Vec<(String, OwnedFd)>;

/// What a successor was given.
#[derive(Debug)]
pub struct Taken {
    sockets: HashMap<String, OwnedFd>,
    predecessor: UnixStream,
}

/// Why nothing could be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// Nobody is there.
    #[error(
        "{path} cannot be connected to: {source}; is a sidecar running with this server.upgrade_socket, as the same user?"
    )]
    Nobody {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It did not go as it should.
    #[error("the sockets were not handed over: {0}")]
    Failed(#[from] io::Error),
}

/// So many sockets at most; the kernel takes 253.
const MOST: usize = 128;
/// So long a list of them at most.
const LONGEST: u64 = 64 * 1024;
/// How long the other side may take to send the sockets.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a successor may take to start: a store may have to be asked.
const START_PATIENCE: Duration = Duration::from_secs(120);
const STARTED: u8 = b'1';

/// The socket's file, which goes with the offer: not where a successor has put its own in its place.
struct OfferFile {
    path: PathBuf,
    /// Which file it is.
    inode: u64,
}

/// Sockets that a successor can have, for as long as this is there.
pub struct Offer {
    listener: tokio::net::UnixListener,
    _file: OfferFile,
    sockets: Arc<Sockets>,
    /// Set when a successor has them.
    handed_over: Arc<AtomicBool>,
}

impl Offer {
    /// Offers `sockets` at `path`.
    pub(super) fn new(
        path: &Path,
        sockets: Arc<Sockets>,
        handed_over: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        let listener = bind(path)?;
        let file = OfferFile {
            path: path.to_owned(),
            inode: std::fs::symlink_metadata(path)?.ino(),
        };
        Ok(Self {
            listener,
            _file: file,
            sockets,
            handed_over,
        })
    }

    /// Returns when a successor serves with them: it is time to stop.
    pub async fn taken(self) -> io::Result<()> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let stream = stream.into_std()?;
            stream.set_nonblocking(false)?;
            let (sockets, handed_over) = (self.sockets.clone(), self.handed_over.clone());
            let hand = move || {
                hand(stream, &sockets)?;
                // Even if nobody waits for this any more, since a signal came meanwhile.
                handed_over.store(true, Ordering::Relaxed);
                Ok::<_, io::Error>(())
            };
            // A successor may take its time.
            match tokio::task::spawn_blocking(hand).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => {
                    tracing::error!(%error, "a successor did not start; this process serves on");
                }
                Err(_) => return Err(io::ErrorKind::Interrupted.into()),
            }
        }
    }
}

/// Puts a socket in the place of another one in one go: a predecessor's is there until then.
fn bind(path: &Path) -> io::Result<tokio::net::UnixListener> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let own = PathBuf::from(name);
    let _ = std::fs::remove_file(&own);
    let listener = UnixListener::bind(&own)?;
    // Whoever can connect gets the sockets.
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&own, path)?;
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}

impl Drop for OfferFile {
    fn drop(&mut self) {
        let found = std::fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn hand(mut stream: UnixStream, sockets: &Sockets) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(START_PATIENCE))?;
    let keys: Vec<_> = sockets.iter().map(|(key, _)| key).collect();
    let mut text = serde_json::to_vec(&keys)?;
    text.push(b'\n');
    let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, fd)| fd.as_fd()).collect();
    if descriptors.len() > MOST {
        return Err(io::Error::other("there are too many listeners"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("there are too many listeners"));
    }
    let sent = sendmsg(
        &stream,
        &[IoSlice::new(&text)],
        &mut control,
        SendFlags::empty(),
    )?;
    stream.write_all(&text[sent..])?;
    let mut started = [0];
    stream.read_exact(&mut started)?;
    match started {
        [STARTED] => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

// === impl Taken ===

impl Taken {
    /// Takes over from the process that offers its sockets at `path`.
    pub fn from(path: &Path) -> Result<Self, TakeError> {
        let stream = UnixStream::connect(path).map_err(|source| TakeError::Nobody {
            path: path.to_owned(),
            source,
        })?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = vec![0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &stream,
            &mut [IoSliceMut::new(&mut text)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        let received = received.map_err(io::Error::from)?;
        text.truncate(received.bytes);
        let descriptors = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        let descriptors: Vec<_> = descriptors.collect();
        let mut rest = (&stream).take(LONGEST);
        while text.last() != Some(&b'\n') {
            let mut byte = [0];
            rest.read_exact(&mut byte)?;
            text.push(byte[0]);
        }
        let keys: Vec<String> = serde_json::from_slice(&text).map_err(io::Error::from)?;
        if keys.len() != descriptors.len() {
            return Err(io::Error::other("fewer sockets came than were announced").into());
        }
        Ok(Self {
            sockets: keys.into_iter().zip(descriptors).collect(),
            predecessor: stream,
        })
    }

    /// The socket that is for this, once.
    pub(super) fn socket(&mut self, key: &str) -> Option<OwnedFd> {
        self.sockets.remove(key)
    }

    /// Tells the predecessor that it may go: this process serves. Sockets that nobody wanted are closed.
    pub fn started(mut self) -> io::Result<()> {
        self.predecessor.set_write_timeout(Some(PATIENCE))?;
        self.predecessor.write_all(&[STARTED])
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn offered() -> (
        tempfile::TempDir,
        PathBuf,
        std::net::SocketAddr,
        Arc<Sockets>,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("upgrade.sock");
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let sockets = Arc::new(vec![("listeners[0]".to_owned(), OwnedFd::from(socket))]);
        (folder, path, address, sockets)
    }

    async fn take(path: &Path) -> Taken {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || {
            loop {
                match Taken::from(&path) {
                    Ok(taken) => return taken,
                    Err(_) => std::thread::yield_now(),
                }
            }
        })
        .await
        .unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_socket_goes_on_listening_with_its_successor() {
        let (_folder, path, address, sockets) = offered();
        let offer = Offer::new(&path, sockets, Arc::default()).unwrap();
        let offering = tokio::spawn(offer.taken());
        // One that gives up before it has started changes nothing.
        drop(take(&path).await);
        let mut taken = take(&path).await;
        assert!(!offering.is_finished());
        let socket = TcpListener::from(taken.socket("listeners[0]").unwrap());
        assert!(taken.socket("listeners[0]").is_none());
        taken.started().unwrap();
        offering.await.unwrap().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (_, peer) = socket.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    }

    #[test]
    fn where_nobody_offers_anything_that_is_said() {
        let error = Taken::from(Path::new("/nonexistent/upgrade.sock")).unwrap_err();
        assert!(
            error.to_string().contains("is a sidecar running"),
            "{error}"
        );
    }
}
