//! The sockets that a configuration names: bound, or taken over from a predecessor.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::net::TcpListener;

use super::StartError;
use super::handover::{Sockets, Taken};
use super::socket::{Socket, open_tcp};
use crate::config::{Config, ListenAddress};

/// All sockets of a sidecar.
pub(super) struct Bound {
    /// In the order of the configuration.
    pub(super) listeners: Vec<Socket>,
    pub(super) admin: Option<(TcpListener, SocketAddr)>,
    /// What a successor would get.
    pub(super) offered: Sockets,
    /// Whether the files of Unix-domain sockets are somebody else's.
    pub(super) handed_over: Arc<AtomicBool>,
}

// === impl Bound ===

impl Bound {
    /// Opens them all, or none.
    pub(super) fn open(config: &Config, mut taken: Option<&mut Taken>) -> Result<Self, StartError> {
        // Until it serves, the files of Unix-domain sockets are a predecessor's.
        let handed_over = Arc::new(AtomicBool::new(taken.is_some()));
        let (mut sockets, mut offered) = (Vec::new(), Vec::new());
        for (index, listener) in config.listeners.iter().enumerate() {
            let key = format!("listeners[{index}].address");
            let name = format!("{key} = {}", listener.address);
            let taken = taken.as_mut().and_then(|taken| taken.socket(&name));
            let opened = Socket::open(&listener.address, taken, &handed_over).and_then(|socket| {
                offered.push((name, socket.duplicate()?));
                Ok(socket)
            });
            sockets.push(opened.map_err(|source| StartError::Bind {
                key,
                address: listener.address.clone(),
                source,
            })?);
        }
        let mut admin = None;
        if let Some(configured) = &config.admin {
            let key = "admin.address".to_owned();
            let name = format!("{key} = {}", configured.address);
            let taken = taken.as_mut().and_then(|taken| taken.socket(&name));
            let opened = open_tcp(configured.address, taken).and_then(|(socket, address)| {
                offered.push((name, socket.as_fd().try_clone_to_owned()?));
                Ok((socket, address))
            });
            admin = Some(opened.map_err(|source| StartError::Bind {
                key,
                address: ListenAddress::Tcp(configured.address),
                source,
            })?);
        }
        Ok(Self {
            listeners: sockets,
            admin,
            offered,
            handed_over,
        })
    }
}
