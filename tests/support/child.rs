//! A child process that ends with this one, whatever ends it.

use std::io::{BufRead, BufReader};
use std::process::{ChildStderr, Command, Stdio};

/// A running process; killed (`kill -9`) when it is dropped.
pub struct Child {
    shell: std::process::Child,
    pid: String,
}

/// Runs the command beside itself, tells its process id, and kills it when our end of a pipe is closed, however that comes
/// about. The command alone keeps the standard error open.
const SHELL: &str = r#""$@" >/dev/null & exec 2>/dev/null; echo $!; read -r _; kill -9 $!"#;

impl Child {
    /// Starts a command, and gives what it writes to its standard error.
    pub fn start(words: &[String]) -> (Self, BufReader<ChildStderr>) {
        let mut shell = Command::new("sh")
            .args(["-c", SHELL, "sh"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut pid = String::new();
        let mut stdout = BufReader::new(shell.stdout.take().expect("it is piped"));
        let told = stdout.read_line(&mut pid);
        told.expect("the shell tells the process id");
        let stderr = BufReader::new(shell.stderr.take().expect("it is piped"));
        let pid = pid.trim().to_owned();
        (Self { shell, pid }, stderr)
    }

    /// The command's process id.
    pub fn pid(&self) -> &str {
        &self.pid
    }

    /// Sends a signal, such as `-STOP`.
    pub fn signal(&self, signal: &str) {
        let kill = Command::new("kill")
            .args([signal, &self.pid])
            .stderr(Stdio::null())
            .status();
        kill.expect("there is a kill command");
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal("-KILL");
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
