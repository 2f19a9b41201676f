//! Which processor has what, where there are two: what is measured has the first, clients and mocks have the second. Or the system
//! decides.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the system decides.
static ANYWHERE: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Measured,
    Load,
}

impl Place {
    /// From now on everything may run anywhere.
    pub fn anywhere() {
        ANYWHERE.store(true, Ordering::Relaxed);
    }

    /// How many proxy threads a sidecar has: one where it has one processor, otherwise as many as it likes.
    pub fn threads() -> Option<usize> {
        several().then_some(1)
    }

    fn list(self) -> &'static str {
        match self {
            Self::Measured => "0",
            Self::Load => "1",
        }
    }

    /// Has all threads of a running process in this place.
    pub fn put(self, pid: &str) {
        if several() {
            let _ = Command::new("taskset")
                .args(["-a", "-cp", self.list(), pid])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }

    /// A command that runs `program` in this place.
    pub fn command(self, program: impl AsRef<OsStr>) -> Command {
        if !several() {
            return Command::new(program);
        }
        let mut command = Command::new("taskset");
        command.args(["-c", self.list()]).arg(program);
        command
    }
}

fn several() -> bool {
    !ANYWHERE.load(Ordering::Relaxed)
        && std::fs::read_to_string("/proc/cpuinfo")
            .is_ok_and(|text| text.matches("processor\t").count() >= 2)
        && Command::new("taskset")
            .arg("-V")
            .stdout(Stdio::null())
            .status()
            .is_ok()
}
