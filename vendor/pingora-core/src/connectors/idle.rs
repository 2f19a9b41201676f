// Copyright 2026 Cloudflare, Inc.
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

//! Connections between two uses, and what watches them meanwhile
//!
//! A connection in the pool is watched by a task, which closes it when its peer does or when it
//! has been idle for too long. Such a task outlives the connection it watches: when that is taken
//! out of the pool, the task is not told, and stays for the next connection that is put in. Whoever
//! puts it in registers the task's waker with it. So neither a task, nor a timer, nor a turn of the
//! scheduler is spent on a connection that comes and goes with every request, and whoever takes it
//! waits for nobody.

use super::{PoolCallback, Stream};
use crossbeam_queue::ArrayQueue;
use log::{debug, warn};
use parking_lot::Mutex;
use pingora_pool::{ConnectionMeta, ConnectionPool};
use std::future::{poll_fn, Future};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, ReadBuf};

/// The pool of idle connections
pub(super) struct IdlePool {
    pool: ConnectionPool<Pooled>,
    /// Watchers without a connection
    free: ArrayQueue<Arc<Watcher>>,
    unexpected_data: Arc<AtomicU64>,
    on_evicted: Option<PoolCallback>,
    /// The number by which the pool is to know the next connection
    ///
    /// A descriptor can be another connection's while the pool still speaks of it.
    next_id: AtomicU32,
}

/// What the pool has of a connection
///
/// The connection itself is the watcher's. It is closed when this is dropped.
struct Pooled {
    watcher: Arc<Watcher>,
    meta: ConnectionMeta,
}

struct Watcher {
    owner: Weak<IdlePool>,
    watched: Mutex<Watched>,
}

/// The task of a watcher
struct Task(Arc<Watcher>);

/// What a watcher has before it
#[derive(Default)]
struct Watched {
    idle: Option<Idle>,
    /// The present connection is in the pool: until then nothing may happen to it
    in_pool: bool,
    /// Of the task, once that has been polled
    waker: Option<Waker>,
    /// When the task looks at the time again
    timer: Option<Instant>,
    /// There is no task any more, or it is to end
    ended: bool,
}

struct Idle {
    stream: Stream,
    meta: ConnectionMeta,
    since: Instant,
    timeout: Option<Duration>,
}

type Timer = Option<Pin<Box<dyn Future<Output = ()> + Send>>>;

// === impl IdlePool ===

impl IdlePool {
    pub(super) fn new(
        size: usize,
        unexpected_data: Arc<AtomicU64>,
        on_evicted: Option<PoolCallback>,
    ) -> Arc<Self> {
        Arc::new(IdlePool {
            pool: ConnectionPool::new(size),
            free: ArrayQueue::new(size.max(1)),
            unexpected_data,
            on_evicted,
            next_id: AtomicU32::new(0),
        })
    }

    /// Put a connection into the pool, for whoever asks for the same `key`
    ///
    /// It is closed at once if it is of no use any more.
    pub(super) fn put(self: &Arc<Self>, stream: Stream, key: u64, timeout: Option<Duration>) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let meta = ConnectionMeta::new(key, id as _);
        let idle = Idle {
            stream,
            meta: meta.clone(),
            since: Instant::now(),
            timeout,
        };
        let watcher = self.free_watcher();
        watcher.give(idle);
        let pooled = Pooled {
            watcher: watcher.clone(),
            meta: meta.clone(),
        };
        // Before it is watched: what is closed at once is found there.
        self.pool.put_silently(&meta, pooled);
        if let Some(closed) = watcher.register(&meta, &self.unexpected_data) {
            self.close(closed, watcher);
        }
    }

    /// Take a connection out of the pool, if there is one
    pub(super) fn get(&self, key: u64) -> Option<Stream> {
        // One that its watcher is about to remove has no connection.
        loop {
            let pooled = self.pool.get(&key)?;
            if let Some(idle) = pooled.watcher.take(&pooled.meta) {
                self.set_free(pooled.watcher.clone());
                return Some(idle.stream);
            }
        }
    }

    fn free_watcher(self: &Arc<Self>) -> Arc<Watcher> {
        while let Some(watcher) = self.free.pop() {
            if !watcher.watched.lock().ended {
                return watcher;
            }
        }
        let watcher = Arc::new(Watcher {
            owner: Arc::downgrade(self),
            watched: Mutex::default(),
        });
        pingora_runtime::current_handle().spawn(Task(watcher.clone()).run());
        watcher
    }

    fn set_free(&self, watcher: Arc<Watcher>) {
        if let Err(surplus) = self.free.push(watcher) {
            surplus.end();
        }
    }

    /// Close a connection that is still in the pool, or about to leave it
    fn close(&self, idle: Idle, watcher: Arc<Watcher>) {
        self.pool.pop_closed(&idle.meta);
        drop(idle);
        self.set_free(watcher);
    }
}

impl Drop for IdlePool {
    fn drop(&mut self) {
        while let Some(watcher) = self.free.pop() {
            watcher.end();
        }
    }
}

// === impl Pooled ===

impl Drop for Pooled {
    fn drop(&mut self) {
        // Not there: it has been taken, or closed.
        let Some(idle) = self.watcher.take(&self.meta) else {
            return;
        };
        let Some(owner) = self.watcher.owner.upgrade() else {
            return self.watcher.end();
        };
        debug!("idle connection is being evicted");
        let idle_for = idle.since.elapsed();
        drop(idle);
        owner.set_free(self.watcher.clone());
        if let Some(on_evicted) = &owner.on_evicted {
            on_evicted(idle_for);
        }
    }
}

// === impl Watcher ===

impl Watcher {
    fn give(&self, idle: Idle) {
        let mut watched = self.watched.lock();
        watched.in_pool = false;
        watched.idle = Some(idle);
    }

    /// Take the connection, if it is still that one
    fn take(&self, meta: &ConnectionMeta) -> Option<Idle> {
        let mut watched = self.watched.lock();
        watched.idle.take_if(|idle| idle.meta.id == meta.id)
    }

    /// Have the task woken when something happens to the connection, which is in the pool now
    ///
    /// Returns the connection if that has happened already, or there is no task.
    fn register(&self, meta: &ConnectionMeta, unexpected_data: &AtomicU64) -> Option<Idle> {
        let mut watched = self.watched.lock();
        if !matches!(&watched.idle, Some(idle) if idle.meta.id == meta.id) {
            return None;
        }
        if watched.ended {
            return watched.idle.take();
        }
        watched.in_pool = true;
        // A task that has not been polled yet will see for itself.
        let waker = watched.waker.clone()?;
        let timer = watched.timer;
        let idle = watched.idle.as_mut()?;
        if idle.is_closed(&mut Context::from_waker(&waker), unexpected_data) {
            return watched.idle.take();
        }
        if let Some(end) = idle.end() {
            // One from before its time, if it is still there, has been lost.
            if timer.is_none_or(|timer| timer > end || timer < idle.since) {
                waker.wake();
            }
        }
        None
    }

    /// One turn of the task
    fn poll(self: &Arc<Self>, context: &mut Context<'_>, timer: &mut Timer) -> Poll<()> {
        loop {
            if let Some(running) = timer {
                if running.as_mut().poll(context).is_ready() {
                    *timer = None;
                }
            }
            let Some(owner) = self.owner.upgrade() else {
                return Poll::Ready(());
            };
            let mut watched = self.watched.lock();
            if watched.ended {
                return Poll::Ready(());
            }
            if timer.is_none() {
                watched.timer = None;
            }
            if !matches!(&watched.waker, Some(waker) if waker.will_wake(context.waker())) {
                watched.waker = Some(context.waker().clone());
            }
            let present = watched.timer;
            if !watched.in_pool {
                return Poll::Pending;
            }
            let Some(idle) = &mut watched.idle else {
                return Poll::Pending;
            };
            if !idle.is_closed(context, &owner.unexpected_data) {
                let Some(end) = idle.end() else {
                    return Poll::Pending;
                };
                let now = Instant::now();
                let left = end.saturating_duration_since(now);
                if !left.is_zero() {
                    if present.is_some_and(|timer| now < timer && timer <= end) {
                        return Poll::Pending;
                    }
                    watched.timer = Some(end);
                    *timer = Some(Box::pin(pingora_timeout::sleep(left)));
                    continue;
                }
                debug!("idle connection timed out");
            }
            let closed = watched.idle.take();
            drop(watched);
            if let Some(closed) = closed {
                owner.close(closed, self.clone());
            }
        }
    }

    fn end(&self) {
        let waker = {
            let mut watched = self.watched.lock();
            watched.ended = true;
            watched.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

// === impl Idle ===

impl Idle {
    /// When it has been idle for too long
    fn end(&self) -> Option<Instant> {
        self.since.checked_add(self.timeout?)
    }

    /// Whether it is of no use any more. If it is not, `context` is woken when that may have changed.
    fn is_closed(&mut self, context: &mut Context<'_>, unexpected_data: &AtomicU64) -> bool {
        let mut byte = [0; 1];
        let mut byte = ReadBuf::new(&mut byte);
        match Pin::new(&mut self.stream).poll_read(context, &mut byte) {
            Poll::Pending => return false,
            Poll::Ready(Ok(())) if byte.filled().is_empty() => {
                debug!("Idle connection is closed");
            }
            Poll::Ready(Ok(())) => {
                warn!("Unexpected data read in idle connection");
                unexpected_data.fetch_add(1, Ordering::Relaxed);
            }
            Poll::Ready(Err(e)) => debug!("Idle connection is broken: {e:?}"),
        }
        true
    }
}

// === impl Task ===

impl Task {
    async fn run(self) {
        let mut timer: Timer = None;
        poll_fn(|context| self.0.poll(context, &mut timer)).await
    }
}

// A runtime that shuts down drops its tasks, also those that it has never polled.
impl Drop for Task {
    fn drop(&mut self) {
        let unwatched = {
            let mut watched = self.0.watched.lock();
            watched.ended = true;
            watched.waker = None;
            // Whoever puts it into the pool will see for themselves.
            let in_pool = watched.in_pool;
            watched.idle.take_if(|_| in_pool)
        };
        if let (Some(idle), Some(owner)) = (unwatched, self.0.owner.upgrade()) {
            owner.pool.pop_closed(&idle.meta);
        }
    }
}
