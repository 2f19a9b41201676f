//! What happens while the known visitors browse, and what it costs.

use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::runtime::Handle;

use crate::flood::{Flood, Wave};
use crate::report::{Phase, Row};
use crate::sidecar::{self, Sidecar};
use crate::slow::{self, Outcome, Slow};
use crate::visitors::{Crowd, Seen};

/// The slow connections have all begun by then.
const SLOW_BEGIN: Duration = Duration::from_millis(1500);

/// Where everything happens, and what was seen so far.
pub struct Stage<'a> {
    pub sidecar: &'a Sidecar,
    pub crowd: &'a Crowd,
    pub browse: f64,
    pub dice: StdRng,
    pub rows: Vec<Row>,
}

impl Stage<'_> {
    /// Nothing, for a while.
    pub async fn calm(&mut self, duration: Duration) {
        self.act(Phase::Calm, async || {
            tokio::time::sleep(duration).await;
            0
        })
        .await;
    }

    /// A wave of requests, and `slow` connections at any time.
    pub async fn flood(
        &mut self,
        flood: &mut Flood,
        wave: Wave,
        slow: usize,
        load: &Handle,
    ) -> Outcome {
        let to = self.sidecar.address;
        let mut ended = None;
        self.act(Phase::Flood, async || {
            let slow = Slow::start(to, slow, load);
            tokio::time::sleep(SLOW_BEGIN).await;
            let before = flood.tally.lock().answered();
            flood.send(wave).await;
            ended = Some(slow.end().await);
            flood.tally.lock().answered() - before
        })
        .await;
        ended.expect("the flood is over")
    }

    /// More connections than there may be.
    pub async fn crowd(&mut self, connections: usize) -> (u64, u64) {
        let to = self.sidecar.address;
        let mut counts = (0, 0);
        self.act(Phase::Crowd, async || {
            counts = slow::crowd(to, connections).await;
            0
        })
        .await;
        counts
    }

    /// Something happens while the known visitors browse.
    async fn act(&mut self, phase: Phase, happens: impl AsyncFnOnce() -> u64) {
        let cpu = || {
            [
                self.sidecar.cpu(),
                sidecar::cpu("self"),
                sidecar::machine_cpu(),
            ]
        };
        let (before, begin) = (cpu(), Instant::now());
        let browsing = self.crowd.browse(self.browse, self.dice.random());
        let requests = happens().await;
        let seen: Seen = browsing.end().await;
        let mut after = cpu();
        for (after, before) in after.iter_mut().zip(before) {
            *after -= before;
        }
        let row = Row {
            phase,
            took: begin.elapsed(),
            requests,
            seen,
            cpu: after,
            memory: self.sidecar.memory().1,
        };
        println!("{}", row.line());
        self.rows.push(row);
    }
}
