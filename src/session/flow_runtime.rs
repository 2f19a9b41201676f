//! Where flows run: a runtime of their own, with a thread of its own.
//!
//! A TLS handshake with Dressipi then holds up no exchange. And the runtime on which exchanges live has no timer set: of the
//! time-outs of OAuth calls and idle OAuth connections there is nearly always one under way, and a worker that goes to sleep while its
//! runtime has a timer set has the kernel set one too, each time.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::scheduling;

/// The runtime of flows. What is still under way when it is dropped is cut off.
#[derive(Debug)]
pub struct FlowRuntime {
    handle: Handle,
    runtime: Option<Runtime>,
}

// === impl FlowRuntime ===

impl FlowRuntime {
    /// Starts it. Fails where the system gives no thread.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("oauth")
            .on_thread_start(scheduling::give_way)
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// What spawns on it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for FlowRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Whoever drops it may be on a runtime too, where waiting is not allowed.
            runtime.shutdown_background();
        }
    }
}
