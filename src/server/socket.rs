//! The sockets of listeners. They are bound and accepted from here and not in pingora, which would panic on an address in use, and would
//! take a Unix-domain socket from another process that still serves.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

use crate::config::ListenAddress;
use crate::gate::Accepted;

/// A socket that is listened on.
pub(super) enum Socket {
    Tcp(TcpListener, SocketAddr),
    /// The file goes with it, and has that mode.
    Unix(UnixListener, SocketFile, u32),
}

/// The file of a Unix-domain socket, which is removed when nobody listens any more: not where a successor does.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf, Arc<AtomicBool>);

const BACKLOG: u32 = 65_535;

// === impl Socket ===

impl Socket {
    /// Binds a socket, or goes on with the one that a predecessor has bound. `kept` says whether a successor has it by the end.
    pub(super) fn open(
        address: &ListenAddress,
        taken: Option<OwnedFd>,
        kept: &Arc<AtomicBool>,
    ) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => {
                let (listener, bound) = open_tcp(*address, taken)?;
                Ok(Self::Tcp(listener, bound))
            }
            ListenAddress::Unix { path, mode } => {
                let listener = match taken {
                    Some(taken) => {
                        let listener = std::os::unix::net::UnixListener::from(taken);
                        listener.set_nonblocking(true)?;
                        UnixListener::from_std(listener)?
                    }
                    None => bind_unix(path, *mode)?,
                };
                let file = SocketFile(path.clone(), kept.clone());
                Ok(Self::Unix(listener, file, *mode))
            }
        }
    }

    /// The same socket, for a successor.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener, _) => listener.as_fd().try_clone_to_owned(),
            Self::Unix(listener, ..) => listener.as_fd().try_clone_to_owned(),
        }
    }

    /// Gives its file the mode that it is to have: a predecessor's may have had another one.
    pub(super) fn set_mode(&self) -> io::Result<()> {
        match self {
            Self::Tcp(..) => Ok(()),
            Self::Unix(_, file, mode) => {
                fs::set_permissions(&file.0, Permissions::from_mode(*mode))
            }
        }
    }

    /// The same on the present runtime.
    pub(super) fn moved_here(self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener, address) => {
                Self::Tcp(TcpListener::from_std(listener.into_std()?)?, address)
            }
            Self::Unix(listener, file, mode) => {
                let listener = UnixListener::from_std(listener.into_std()?)?;
                Self::Unix(listener, file, mode)
            }
        })
    }

    /// The next connection. It is on no runtime: which one has it is decided elsewhere.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        Ok(match self {
            Self::Tcp(listener, _) => {
                let (stream, peer) = listener.accept().await?;
                Accepted::Tcp(stream.into_std()?, peer)
            }
            Self::Unix(listener, ..) => Accepted::Unix(listener.accept().await?.0.into_std()?),
        })
    }
}

/// Binds an address, or goes on with the socket that a predecessor has bound to it.
pub(super) fn open_tcp(
    address: SocketAddr,
    taken: Option<OwnedFd>,
) -> io::Result<(TcpListener, SocketAddr)> {
    let Some(taken) = taken else {
        return bind_tcp(address);
    };
    let listener = std::net::TcpListener::from(taken);
    listener.set_nonblocking(true)?;
    let bound = listener.local_addr()?;
    Ok((TcpListener::from_std(listener)?, bound))
}

fn bind_tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let socket = UnixSocket::new_stream()?;
    match socket.bind(path) {
        // Left over from a process that was killed: nobody answers there.
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_abandoned(path) => {
            fs::remove_file(path)?;
            socket.bind(path)?;
        }
        result => result?,
    }
    // Before anybody can connect.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket.listen(BACKLOG)
}

/// A connection to what is no socket is refused, too.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).is_err_and(refused)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.1.load(Ordering::Relaxed) {
            let _ = fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &Path) -> io::Result<Socket> {
        let path = path.to_owned();
        let address = ListenAddress::Unix { path, mode: 0o660 };
        Socket::open(&address, None, &Arc::default())
    }

    #[tokio::test]
    async fn a_socket_that_is_served_is_refused_and_one_that_was_left_over_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("http.sock");
        let first = bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o660);
        assert_eq!(bind(&path).err().unwrap().kind(), ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists(), "it is removed with its listener");

        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as a process that was killed leaves it");
        assert!(bind(&path).is_ok());

        fs::write(&path, "a file of somebody's").unwrap();
        assert_eq!(bind(&path).err().unwrap().kind(), ErrorKind::AddrInUse);
        assert!(path.exists(), "what is no socket is left alone");
    }
}
