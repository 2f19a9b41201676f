//! What the process keeps to itself when it goes wrong: no core dump, and no data in a panic's message. And what it leaves to others:
//! memory that it does not need.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{Location, PanicHookInfo};

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Keeps tokens and keys out of core dumps, what was in a variable out of what is written of a panic, and itself out of huge pages.
pub(super) fn confine() {
    std::panic::set_hook(Box::new(report_panic));
    // The limit keeps the kernel from writing a file. A handler (`kernel.core_pattern` with a pipe) heeds no limit, but gets nothing of
    // a process that is not dumpable; nor may others of the same user read its memory or its environment then.
    let limited = getrlimit(Resource::RLIMIT_CORE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_CORE, 0, hard));
    if let Err(error) = limited.and_then(|()| prctl::set_dumpable(false)) {
        eprintln!("dressipi-sidecar: core dumps cannot be switched off: {error}");
    }
    // The allocator asks for them, and what lies in one is resident as a whole, of however little use the rest is. Whatever is given
    // back splits one, and the kernel fills the gaps again a little later: memory seems to leak. A kernel that knows no such pages has
    // nothing to switch off.
    let _ = prctl::set_thp_disable(true);
}

/// For those who look for a fault and want a core dump.
pub(super) fn allow_core_dumps() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    setrlimit(Resource::RLIMIT_CORE, hard, hard)?;
    prctl::set_dumpable(true)
}

/// For those who have memory to spare and very many visitors.
pub(super) fn allow_huge_pages() -> nix::Result<()> {
    prctl::set_thp_disable(false)
}

fn report_panic(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let what = describe(info.payload(), info.location());
    let backtrace = Backtrace::capture();
    if tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!(thread, "{what}");
    } else {
        // Before there is a log.
        eprintln!("dressipi-sidecar: {thread}: {what}");
    }
    if backtrace.status() == BacktraceStatus::Captured {
        eprintln!("{backtrace}");
    }
}

/// Where it was, and what, if that is a text of the program itself. A text that was put together when it happened may hold anything.
fn describe(payload: &(dyn Any + Send), location: Option<&Location<'_>>) -> String {
    let place = location.map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    match payload.downcast_ref::<&'static str>() {
        Some(text) => format!("panicked at {place}: {text}"),
        None => format!("panicked at {place}; the message may hold data and is not shown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(panic: impl FnOnce() + std::panic::UnwindSafe) -> Box<dyn Any + Send> {
        std::panic::catch_unwind(panic).unwrap_err()
    }

    #[test]
    fn invariant_7_a_panic_says_where_and_repeats_no_data() {
        let here = Location::caller();
        let secret = String::from("hunter2");
        let put_together = payload(move || panic!("no such key: {secret}"));
        let told = describe(&*put_together, Some(here));
        assert!(told.contains("confine.rs:"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
        let own = payload(|| panic!("a text of the program"));
        assert!(describe(&*own, None).ends_with("an unknown place: a text of the program"));
    }
}
