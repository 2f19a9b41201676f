//! What goes wrong with others: the app and Dressipi are gone, reset, hang, or answer wrongly. One trouble at a time, in turn.

use std::sync::Arc;
use std::time::Duration;

use dressipi_sidecar::simulator::{Endpoint, Fault, FaultKind, Simulator};

use crate::ground::Ground;
use crate::link::{Link, Mode};

/// Who stands between the sidecar and the others.
pub struct Upstreams {
    pub app: Link,
    pub dressipi: Link,
    pub simulator: Simulator,
}

const EVERYTHING: [Endpoint; 4] = [
    Endpoint::Authorize,
    Endpoint::Token,
    Endpoint::Refresh,
    Endpoint::Resource,
];
const OAUTH: [Endpoint; 3] = [Endpoint::Authorize, Endpoint::Token, Endpoint::Refresh];
/// So many sorts of trouble.
const SORTS: u32 = 14;

/// Ends when it is dropped, in the middle of a trouble.
pub async fn happen(ground: Arc<Ground>, upstreams: Arc<Upstreams>) {
    let scale = ground.scale;
    for sort in (0..SORTS).cycle() {
        tokio::time::sleep(scale.trouble_every - scale.trouble).await;
        ground.trouble(scale.trouble);
        begin(sort, &upstreams, scale.trouble);
        tokio::time::sleep(scale.trouble).await;
        end(&upstreams);
        ground.trouble(Duration::ZERO);
    }
}

fn begin(sort: u32, upstreams: &Upstreams, lasts: Duration) {
    let Upstreams {
        app,
        dressipi,
        simulator,
    } = upstreams;
    let fault = |endpoints: &[Endpoint], kind: FaultKind, chance: f64| {
        for endpoint in endpoints {
            let fault = Fault::always(*endpoint, kind.clone()).lasting(lasts);
            simulator.add_fault(fault.with_probability(chance));
        }
    };
    match sort {
        0 => app.set(Mode::Reset),
        1 => fault(&OAUTH, FaultKind::status(503), 0.7),
        2 => fault(&[Endpoint::Resource], FaultKind::RejectToken, 0.1),
        3 => app.set(Mode::Blackhole),
        4 => fault(
            &OAUTH,
            FaultKind::OauthError {
                error: "temporarily_unavailable".into(),
            },
            0.7,
        ),
        5 => dressipi.set(Mode::Reset),
        6 => fault(&OAUTH, FaultKind::Delay { ms: 2500 }, 0.5),
        7 => app.set(Mode::Refuse),
        8 => fault(&[Endpoint::Authorize], FaultKind::DropAfterCommit, 0.3),
        9 => dressipi.set(Mode::Blackhole),
        10 => fault(&EVERYTHING, FaultKind::Delay { ms: 300 }, 0.8),
        11 => fault(&OAUTH, FaultKind::DropBeforeCommit, 0.5),
        12 => dressipi.set(Mode::Refuse),
        _ => {
            let too_many = FaultKind::Status {
                code: 429,
                retry_after: Some(1),
                body: None,
            };
            fault(&OAUTH, too_many, 0.5);
            fault(&[Endpoint::Resource], FaultKind::status(500), 0.3);
        }
    }
}

/// All is well again.
pub fn end(upstreams: &Upstreams) {
    upstreams.simulator.clear_faults();
    upstreams.app.set(Mode::Pass);
    upstreams.dressipi.set(Mode::Pass);
}

/// The upstreams close every connection, idle ones too.
pub async fn hang_up(upstreams: &Upstreams) {
    upstreams.app.set(Mode::Reset);
    upstreams.dressipi.set(Mode::Reset);
    tokio::time::sleep(Duration::from_millis(300)).await;
    end(upstreams);
}
