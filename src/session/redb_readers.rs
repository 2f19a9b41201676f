//! The threads that read the database.
//!
//! Decides how many of them are at work. A read whose pages are in memory takes microseconds: one thread does those of thousands of
//! visitors, one after another, and each further thread would only take its share of the processors from the proxy's. A read that waits for
//! the disk holds its thread up, and what queues behind it has further threads woken.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::redb_shared::Shared;
use crate::scheduling;

/// How many threads there are for each processor, at most: enough to keep a disk busy.
const EACH: usize = 4;
const MOST: usize = 32;
/// How many reads wait for each thread that is at work before another one helps.
const PATIENCE: usize = 4;
/// How long one that has helped stays: it keeps some megabytes of the allocator's.
const STAY: Duration = Duration::from_secs(10);

/// A read, with whom to tell. It must not panic.
pub(super) type Read = Box<dyn FnOnce(&Shared) + Send>;

/// Threads that are started when they are needed. All but one end when they have not been needed for a while, and that one with this.
#[derive(Debug)]
pub(super) struct Readers {
    queue: Arc<Queue>,
}

struct Queue {
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    waiting: VecDeque<Read>,
    threads: usize,
    /// Those that sleep and whom nobody has woken yet.
    idle: usize,
    most: usize,
    stay: Duration,
    ended: bool,
}

/// Who does a read that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Help {
    /// Those who are at work.
    Enough,
    Wake,
    Start,
}

fn most() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (EACH * processors).min(MOST)
}

// === impl Readers ===

impl Readers {
    pub(super) fn new() -> Self {
        Self::with(most(), STAY)
    }

    fn with(most: usize, stay: Duration) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            threads: 0,
            idle: 0,
            most,
            stay,
            ended: false,
        };
        let queue = Queue {
            state: Mutex::new(state),
            work: Condvar::new(),
        };
        Self {
            queue: Arc::new(queue),
        }
    }

    /// Has `read` done on one of the threads. Does not block. Fails where there is no thread and the system gives none; `read` is dropped
    /// then.
    pub(super) fn submit(&self, shared: &Arc<Shared>, read: Read) -> io::Result<()> {
        let mut state = self.queue.state.lock();
        state.waiting.push_back(read);
        let help = state.help();
        match help {
            Help::Enough => return Ok(()),
            Help::Wake => state.idle -= 1,
            Help::Start => state.threads += 1,
        }
        drop(state);
        match help {
            Help::Start => self.start(shared.clone()),
            _ => {
                self.queue.work.notify_one();
                Ok(())
            }
        }
    }

    fn start(&self, shared: Arc<Shared>) -> io::Result<()> {
        let queue = self.queue.clone();
        let started = std::thread::Builder::new()
            .name("store-reader".to_owned())
            .spawn(move || {
                scheduling::give_way();
                queue.work(&shared);
            });
        let Err(error) = started else {
            return Ok(());
        };
        let mut state = self.queue.state.lock();
        state.threads -= 1;
        match state.threads {
            0 => {
                state.waiting.clear();
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue.state.lock().ended = true;
        self.queue.work.notify_all();
    }
}

// === impl Queue ===

impl Queue {
    fn work(&self, shared: &Shared) {
        let mut state = self.state.lock();
        loop {
            if let Some(read) = state.waiting.pop_front() {
                drop(state);
                read(shared);
                state = self.state.lock();
            } else if state.ended {
                return;
            } else {
                state.idle += 1;
                // Whoever wakes it takes it off the idle ones; this kind of variable does not wake by itself.
                let stay = state.stay;
                let woken = !self.work.wait_for(&mut state, stay).timed_out();
                // Where none is idle, somebody meant this one, just when it gave up.
                if !woken && state.idle > 0 {
                    state.idle -= 1;
                    if state.threads > 1 {
                        state.threads -= 1;
                        return;
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

// === impl State ===

impl State {
    fn help(&self) -> Help {
        let at_work = self.threads - self.idle;
        if self.waiting.len() <= at_work * PATIENCE {
            Help::Enough
        } else if self.idle > 0 {
            Help::Wake
        } else if self.threads < self.most {
            Help::Start
        } else {
            Help::Enough
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use redb::Database;
    use redb::backends::InMemoryBackend;

    use super::*;

    fn shared() -> Arc<Shared> {
        let database = Database::builder().create_with_backend(InMemoryBackend::new());
        Arc::new(Shared::new(database.unwrap()))
    }

    /// A read that lasts until the sender is dropped; the receiver hears when it begins.
    fn held() -> (Read, mpsc::Sender<()>, mpsc::Receiver<()>) {
        let ((go, wait), (begins, begun)) = (mpsc::channel::<()>(), mpsc::channel());
        let read = Box::new(move |_: &Shared| {
            begins.send(()).unwrap();
            let _ = wait.recv();
        });
        (read, go, begun)
    }

    fn told(done: &mpsc::Sender<usize>, number: usize) -> Read {
        let done = done.clone();
        Box::new(move |_| done.send(number).unwrap())
    }

    const LONG: Duration = Duration::from_secs(600);

    fn threads(readers: &Readers) -> usize {
        readers.queue.state.lock().threads
    }

    #[test]
    fn one_thread_does_what_does_not_wait() {
        let (shared, readers) = (shared(), Readers::with(8, LONG));
        let (done, answers) = mpsc::channel();
        for number in 0..1000 {
            readers.submit(&shared, told(&done, number)).unwrap();
            assert_eq!(answers.recv().unwrap(), number);
        }
        // The one may not be back at its queue yet when the next read comes: then it does that as well.
        assert_eq!(threads(&readers), 1);
    }

    #[test]
    fn a_read_that_waits_for_the_disk_does_not_hold_up_the_others() {
        let (shared, readers) = (shared(), Readers::with(8, LONG));
        let (slow, go, begun) = held();
        readers.submit(&shared, slow).unwrap();
        begun.recv().unwrap();
        let (done, answers) = mpsc::channel();
        for number in 0..PATIENCE {
            readers.submit(&shared, told(&done, number)).unwrap();
        }
        assert_eq!(threads(&readers), 1, "so few wait for it");
        readers.submit(&shared, told(&done, PATIENCE)).unwrap();
        let others: Vec<_> = answers.iter().take(PATIENCE + 1).collect();
        assert_eq!(others, Vec::from_iter(0..=PATIENCE), "in their order");
        assert_eq!(threads(&readers), 2);
        drop(go);
    }

    #[test]
    fn there_are_never_more_threads_than_allowed() {
        let (shared, readers) = (shared(), Readers::with(3, LONG));
        let all: Vec<_> = (0..100).map(|_| held()).collect();
        let (mut going, mut begun) = (Vec::new(), Vec::new());
        for (read, go, begins) in all {
            readers.submit(&shared, read).unwrap();
            going.push(go);
            begun.push(begins);
        }
        assert_eq!(threads(&readers), 3);
        drop(going);
        for begins in begun {
            begins.recv().expect("each is done");
        }
    }

    #[test]
    fn what_waits_when_it_ends_is_done() {
        let (shared, readers) = (shared(), Readers::with(1, LONG));
        let (slow, go, begun) = held();
        readers.submit(&shared, slow).unwrap();
        begun.recv().unwrap();
        let (done, answers) = mpsc::channel();
        for number in 0..10 {
            readers.submit(&shared, told(&done, number)).unwrap();
        }
        drop(readers);
        drop((go, done));
        assert_eq!(answers.iter().count(), 10);
    }

    #[test]
    fn those_that_helped_end_but_for_one_and_no_read_is_lost_meanwhile() {
        let (shared, readers) = (shared(), Readers::with(8, Duration::from_millis(1)));
        let (done, answers) = mpsc::channel();
        for round in 0..20 {
            let mut going = Vec::new();
            for _ in 0..8 * (PATIENCE + 1) {
                let (go, wait) = mpsc::channel::<()>();
                let slow = Box::new(move |_: &Shared| {
                    let _ = wait.recv();
                });
                readers.submit(&shared, slow).unwrap();
                going.push(go);
            }
            assert!(threads(&readers) > 1);
            drop(going);
            // Whenever it comes, whether threads are ending or not.
            for number in 0..50 {
                readers.submit(&shared, told(&done, number)).unwrap();
                assert_eq!(answers.recv().unwrap(), number, "round {round}");
            }
            while threads(&readers) > 1 {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn a_thread_that_slept_is_woken_again() {
        let (shared, readers) = (shared(), Readers::with(2, LONG));
        let (done, answers) = mpsc::channel();
        for round in 0..100 {
            readers.submit(&shared, told(&done, round)).unwrap();
            assert_eq!(answers.recv().unwrap(), round);
            while readers.queue.state.lock().idle == 0 {
                std::thread::yield_now();
            }
        }
        assert_eq!(threads(&readers), 1);
    }
}
