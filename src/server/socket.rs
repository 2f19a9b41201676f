//! The sockets of listeners. They are bound here and not in pingora, which would panic on an address in use, and would take a
//! Unix-domain socket from another process that still serves.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use pingora::listeners::ListenerConfig;
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

use crate::config::ListenAddress;

/// A socket that is listened on.
pub(super) enum Socket {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile, u32),
}

/// The file of a Unix-domain socket, which is removed when nobody listens any more.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

const BACKLOG: u32 = 65_535;

// === impl Socket ===

impl Socket {
    pub(super) fn bind(address: &ListenAddress) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => {
                let (listener, bound) = bind_tcp(*address)?;
                Ok(Self::Tcp(listener, bound))
            }
            ListenAddress::Unix { path, mode } => {
                let (listener, file) = bind_unix(path, *mode)?;
                Ok(Self::Unix(listener, file, *mode))
            }
        }
    }

    /// What pingora calls it, how it is to be served, its descriptor, and what is to be kept until it is closed.
    pub(super) fn into_parts(
        self,
    ) -> io::Result<(String, ListenerConfig, RawFd, Option<SocketFile>)> {
        Ok(match self {
            Self::Tcp(listener, address) => {
                let name = address.to_string();
                let fd = listener.into_std()?.into_raw_fd();
                (name.clone(), ListenerConfig::tcp(name), fd, None)
            }
            Self::Unix(listener, file, mode) => {
                let name = file.0.display().to_string();
                let fd = listener.into_std()?.into_raw_fd();
                // pingora sets them once more.
                let permissions = Permissions::from_mode(mode);
                let config = ListenerConfig::uds(name.clone()).permissions(permissions);
                (name, config, fd, Some(file))
            }
        })
    }
}

pub(super) fn bind_tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
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

fn bind_unix(path: &Path, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let socket = UnixSocket::new_stream()?;
    match socket.bind(path) {
        // Left over from a process that was killed: nobody answers there.
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_abandoned(path) => {
            fs::remove_file(path)?;
            socket.bind(path)?;
        }
        result => result?,
    }
    let file = SocketFile(path.to_owned());
    // Before anybody can connect.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok((socket.listen(BACKLOG)?, file))
}

/// A connection to what is no socket is refused, too.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).is_err_and(refused)
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &Path) -> io::Result<Socket> {
        let path = path.to_owned();
        Socket::bind(&ListenAddress::Unix { path, mode: 0o660 })
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
