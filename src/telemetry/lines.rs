//! Lines on their way to standard error. A thread may gather its lines and write them in one piece, each with a time of its own.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::clock::{Clock, SystemClock, Timestamp};

/// Lines that one thread gathers.
#[derive(Default)]
struct Gathered {
    text: Vec<u8>,
    at: Option<Timestamp>,
}

thread_local! {
    static GATHERED: RefCell<Option<Gathered>> = const { RefCell::new(None) };
}

/// The batch that the present thread gathers.
pub(super) struct Batch(());

/// Runs `log`; what it logs is written at its end in one piece.
pub(super) fn batch(log: impl FnOnce(&Batch)) {
    let _ = io::stderr().write_all(&gather(log));
}

/// What `log` logs.
pub(super) fn gather(log: impl FnOnce(&Batch)) -> Vec<u8> {
    GATHERED.set(Some(Gathered::default()));
    log(&Batch(()));
    GATHERED
        .take()
        .map(|gathered| gathered.text)
        .unwrap_or_default()
}

/// Writes a line to standard error, or to the batch of the thread.
#[derive(Clone, Copy)]
pub(super) struct LineWriter;

/// The time of a line: now, or what the batch says.
pub(super) struct LineTime;

/// A time as lines have it: in milliseconds, as RFC 3339 writes it.
pub(super) struct Shown(pub(super) Timestamp);

/// The last time that RFC 3339 can write; later ones are shown as this one.
const LAST: Timestamp = Timestamp::from_millis(253_402_300_799_999);

// === impl Batch ===

impl Batch {
    /// Sets the time of what is logged from here on.
    pub(super) fn set_time(&self, at: Timestamp) {
        Self::with(|gathered| gathered.at = Some(at));
    }

    /// Adds what `write` appends: whole lines. It must log nothing itself.
    pub(super) fn add(&self, write: impl FnOnce(&mut Vec<u8>)) {
        Self::with(|gathered| write(&mut gathered.text));
    }

    fn with(change: impl FnOnce(&mut Gathered)) {
        GATHERED.with_borrow_mut(|gathered| gathered.as_mut().map(change));
    }
}

// === impl LineWriter ===

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        GATHERED.with_borrow_mut(|gathered| match gathered {
            Some(gathered) => gathered.text.write(line),
            None => io::stderr().write(line),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LineWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

// === impl LineTime ===

impl FormatTime for LineTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let at = GATHERED.with_borrow(|gathered| gathered.as_ref().and_then(|it| it.at));
        write!(writer, "{}", Shown(at.unwrap_or_else(|| SystemClock.now())))
    }
}

// === impl Shown ===

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Duration::from_millis(self.0.min(LAST).as_millis());
        fmt::Display::fmt(&humantime::format_rfc3339_millis(UNIX_EPOCH + at), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> String {
        let mut text = String::new();
        LineTime.format_time(&mut Writer::new(&mut text)).unwrap();
        text
    }

    #[test]
    fn lines_of_a_batch_are_gathered_with_their_own_time() {
        let text = gather(|batch| {
            batch.set_time(Timestamp::from_millis(1_700_000_000_123));
            assert_eq!(shown(), "2023-11-14T22:13:20.123Z");
            batch.set_time(Timestamp::from_millis(1_700_000_001_000));
            assert_eq!(shown(), "2023-11-14T22:13:21.000Z");
            LineWriter.write_all(b"one\n").unwrap();
            batch.add(|text| text.extend(b"two\n"));
        });
        assert_eq!(text, b"one\ntwo\n");
        assert_ne!(shown(), "2023-11-14T22:13:21.000Z");
    }

    #[test]
    fn any_time_can_be_shown() {
        let shown = |millis| Shown(Timestamp::from_millis(millis)).to_string();
        assert_eq!(shown(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(shown(LAST.as_millis()), "9999-12-31T23:59:59.999Z");
        assert_eq!(shown(u64::MAX), "9999-12-31T23:59:59.999Z");
    }
}
