//! The access log: lines are formatted and written by a thread of their own, not by the one that serves requests.
//!
//! A request hands over what it has and goes on. The queue is bounded: where standard error does not take lines as fast as they
//! come, lines are dropped and counted, and no request waits. The thread looks into the queue a few dozen times a second while
//! there is traffic, so that handing over wakes nobody, and writes what it finds at once. A line's time is the request's end.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::access_line::AccessLine;
use super::lines::batch;
use super::metrics::Metrics;

/// Where requests leave their lines.
#[derive(Clone)]
pub struct AccessLog {
    queue: SyncSender<Message>,
    metrics: Arc<Metrics>,
}

/// The access log's end: what is queued when it is dropped is written first.
pub struct AccessLogGuard(SyncSender<Message>);

enum Message {
    Line(AccessLine),
    /// Everything before this has been written when the answer comes.
    Flush(SyncSender<()>),
}

/// So many lines may wait. At 4096 in a fiftieth of a second, that is 200,000 requests a second.
const QUEUE: usize = 4096;
/// How long the thread lets lines gather.
const GATHER: Duration = Duration::from_millis(20);
/// How long the end may wait for whoever reads standard error.
const FLUSH_BOUND: Duration = Duration::from_secs(2);

// === impl AccessLog ===

impl AccessLog {
    /// Starts the thread, which ends with the last handle. Lines that are dropped count in `metrics`.
    pub fn start(metrics: Arc<Metrics>) -> std::io::Result<(Self, AccessLogGuard)> {
        let (queue, lines) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || run(&lines))?;
        let guard = AccessLogGuard(queue.clone());
        Ok((Self { queue, metrics }, guard))
    }

    /// Hands a line over; never waits.
    pub fn write(&self, line: AccessLine) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.metrics.access_line_dropped();
        }
    }
}

/// Writes lines until there is nobody left who could send one.
fn run(lines: &Receiver<Message>) {
    while let Ok(first) = lines.recv() {
        let mut next = Some(first);
        while let Some(message) = next {
            let mut flushed = Vec::new();
            batch(|batch| {
                for message in std::iter::once(message).chain(lines.try_iter()).take(QUEUE) {
                    match message {
                        Message::Line(line) => line.log(batch),
                        Message::Flush(answer) => {
                            flushed.push(answer);
                            break;
                        }
                    }
                }
            });
            if flushed.is_empty() {
                std::thread::sleep(GATHER);
            }
            for answer in flushed {
                let _ = answer.try_send(());
            }
            next = lines.try_recv().ok();
        }
    }
}

// === impl AccessLogGuard ===

impl AccessLogGuard {
    /// Waits until everything that was handed over is written, for a moment at most.
    pub fn flush(&self) {
        let (answer, written) = sync_channel(1);
        let mut message = Message::Flush(answer);
        for _ in 0..FLUSH_BOUND.as_millis() / GATHER.as_millis() {
            match self.0.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) => message = back,
                Err(TrySendError::Disconnected(_)) => return,
            }
            std::thread::sleep(GATHER);
        }
        let _ = written.recv_timeout(FLUSH_BOUND);
    }
}

impl Drop for AccessLogGuard {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn line(path: &str) -> AccessLine {
        AccessLine {
            at: Timestamp::from_millis(1_700_000_000_123),
            method: http::Method::GET,
            path: path.into(),
            status: Some(200),
            route: None,
            visitor: None,
            token: "visitor",
            took: Duration::from_micros(7),
            upstream: None,
            trace: None,
            sent: 1,
            error: None,
        }
    }

    #[test]
    fn lines_for_which_there_is_no_room_are_counted_and_hold_nobody_up() {
        let metrics = Arc::new(Metrics::new());
        let (queue, lines) = sync_channel(2);
        let log = AccessLog {
            queue,
            metrics: metrics.clone(),
        };
        for _ in 0..5 {
            log.write(line("/"));
        }
        assert_eq!(lines.try_iter().count(), 2);
        let text = metrics.render(crate::telemetry::Reading::default());
        let counted = "dressipi_sidecar_access_lines_dropped_total 3";
        assert!(text.lines().any(|line| line == counted), "{text}");
    }

    #[test]
    fn a_flush_waits_for_what_came_before_it_and_the_thread_ends_with_the_last_handle() {
        let (queue, lines) = sync_channel(QUEUE);
        let thread = std::thread::spawn(move || run(&lines));
        let log = AccessLog {
            queue: queue.clone(),
            metrics: Arc::new(Metrics::new()),
        };
        let guard = AccessLogGuard(queue);
        for _ in 0..100 {
            log.write(line("/"));
        }
        drop(guard);
        drop(log);
        thread.join().unwrap();
    }
}
