//! What happens while the known visitors browse.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::Extent;
use crate::timetable::clients::{self, Requests, Seen, Timetable};
use crate::timetable::mock::Mock;
use crate::timetable::sidecar::Sidecar;
use crate::timetable::{page, thread};
use crate::visitors::Cookies;

/// Where everything happens, and what was seen so far.
pub(crate) struct Stage<'a> {
    pub(crate) phases: Vec<Phase>,
    sidecar: &'a Sidecar,
    mock: &'a Mock,
    extent: Extent,
    browsing: Cookies,
    /// Threads of the visitors who browse, and of those of the storm.
    threads: [Handle; 2],
}

/// A calm, or a storm.
pub(crate) struct Phase {
    /// What the visitors saw who browse.
    pub(crate) browsing: Seen,
    /// The part of a processor that the sidecar took.
    pub(crate) cpu: f64,
    pub(crate) storm: Option<Storm>,
}

/// What became of a storm's visitors.
pub(crate) struct Storm {
    pub(crate) seen: Seen,
    /// Refreshes until the last of them had come, and in what time.
    pub(crate) refreshed: u64,
    pub(crate) took: Duration,
    /// Refreshes after the rest that follows.
    pub(crate) in_the_end: u64,
}

/// Visitors with expired tokens who came as fast as they were answered.
pub(crate) struct Rush {
    pub(crate) seen: Seen,
    /// Refreshes in a second.
    pub(crate) rate: f64,
    /// The part of a processor that the sidecar took.
    pub(crate) cpu: f64,
}

/// How many of them ask at once.
const RUSH: usize = 64;

// === impl Stage ===

impl<'a> Stage<'a> {
    /// Everybody who browses has come once.
    pub(crate) async fn new(
        sidecar: &'a Sidecar,
        mock: &'a Mock,
        extent: Extent,
        browsing: Cookies,
    ) -> Self {
        let everybody = requests(browsing.clone());
        let (seen, _) = clients::closed(sidecar.address, 32, browsing.len(), &everybody).await;
        assert_eq!(
            (seen.failed, seen.without_token()),
            (0, 0),
            "everybody is known"
        );
        Self {
            phases: Vec::new(),
            sidecar,
            mock,
            extent,
            browsing,
            threads: [thread("browsing"), thread("storm")],
        }
    }

    /// Nothing but visitors who browse, from `begin` on.
    pub(crate) async fn calm(&mut self, begin: Instant) {
        wait_for(begin).await;
        let before = self.sidecar.cpu();
        let browsing = self.browse(begin, self.extent.calm).await;
        self.phases.push(Phase {
            browsing,
            cpu: self.cpu_since(before, begin),
            storm: None,
        });
    }

    /// At `begin` the first of these visitors' tokens expires.
    pub(crate) async fn storm(&mut self, begin: Instant, visitors: Cookies) {
        wait_for(begin).await;
        let (before, refreshed) = (self.sidecar.cpu(), self.mock.counts.refreshes());
        let timetable = Timetable {
            begin: begin + JUST_AFTER,
            count: visitors.len(),
            per_second: self.extent.pace(),
        };
        let to = self.sidecar.address;
        let coming = self.threads[1].spawn(clients::open(to, timetable, requests(visitors)));
        let browsing = self.browse(begin, self.extent.lasts()).await;
        let cpu = self.cpu_since(before, begin);
        let seen = coming.await.expect("clients do not panic");
        let took = begin.elapsed();
        let so_far = self.mock.counts.refreshes() - refreshed;
        tokio::time::sleep(
            (begin + self.extent.lasts() + self.extent.rest)
                .saturating_duration_since(Instant::now()),
        )
        .await;
        self.phases.push(Phase {
            browsing,
            cpu,
            storm: Some(Storm {
                seen,
                refreshed: so_far,
                took,
                in_the_end: self.mock.counts.refreshes() - refreshed,
            }),
        });
    }

    /// Everybody with an expired token, as fast as they are answered; nobody else browses.
    pub(crate) async fn rush(&self, visitors: Cookies) -> Rush {
        let (before, begin) = (self.sidecar.cpu(), Instant::now());
        let count = visitors.len();
        let to = self.sidecar.address;
        let coming = self.threads[1]
            .spawn(async move { clients::closed(to, RUSH, count, &requests(visitors)).await });
        let (seen, took) = coming.await.expect("clients do not panic");
        Rush {
            rate: seen.took.len() as f64 / took.as_secs_f64(),
            cpu: self.cpu_since(before, begin),
            seen,
        }
    }

    async fn browse(&self, begin: Instant, duration: Duration) -> Seen {
        let per_second = self.extent.per_second;
        let timetable = Timetable {
            begin,
            count: (per_second * duration.as_secs_f64()) as usize,
            per_second,
        };
        let requests = requests(self.browsing.clone());
        let browsing = clients::open(self.sidecar.address, timetable, requests);
        let seen = self.threads[0].spawn(browsing).await;
        seen.expect("clients do not panic")
    }

    fn cpu_since(&self, before: Duration, begin: Instant) -> f64 {
        let taken = self.sidecar.cpu() - before;
        taken.as_secs_f64() / begin.elapsed().as_secs_f64()
    }
}

/// A token that has expired by its clock has done so by the sidecar's, which counts milliseconds.
const JUST_AFTER: Duration = Duration::from_millis(20);

/// One visitor after the other.
fn requests(cookies: Cookies) -> Requests {
    Arc::new(move |number| page(Some(&cookies[number % cookies.len()])))
}

async fn wait_for(begin: Instant) {
    tokio::time::sleep(begin.saturating_duration_since(Instant::now())).await;
}
