//! PURE: what the status page says, from what was counted. It judges only what somebody must look at.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plot::Plot;
use crate::admin::config_state::Present;
use crate::clock::Timestamp;
use crate::config::{Config, Credentials};
use crate::session::{Census, StoreSettings};
use crate::telemetry::{Answered, Step, Totals};

/// What is known when somebody looks.
pub(super) struct Facts<'a> {
    pub(super) now: Timestamp,
    pub(super) started: Timestamp,
    pub(super) present: &'a Present,
    /// Why the sidecar is not ready, if it is not.
    pub(super) not_ready: Option<String>,
    pub(super) census: Option<Census>,
    pub(super) cached: u64,
    pub(super) unsaved: u64,
    pub(super) in_flight: usize,
    pub(super) upstreams: Vec<UpstreamFacts>,
    /// Since the start.
    pub(super) totals: &'a Totals,
    /// The last five minutes.
    pub(super) lately: Step,
    /// The last hour.
    pub(super) hour: Step,
    /// The last hour, in steps.
    pub(super) steps: Vec<Step>,
}

/// An upstream.
#[derive(Clone, Debug)]
pub struct UpstreamFacts {
    /// Its name.
    pub name: String,
    /// Where it is, as configured.
    pub address: String,
    /// How many addresses that is.
    pub addresses: usize,
}

/// What the page shows.
pub(super) struct View {
    pub(super) version: &'static str,
    pub(super) uptime: String,
    /// What somebody must look at, the worst first; nothing: all is well.
    pub(super) concerns: Vec<String>,
    pub(super) tiles: Vec<Tile>,
    pub(super) reasons: Vec<Row>,
    pub(super) calls: Vec<Row>,
    pub(super) upstreams: Vec<Row>,
    pub(super) sessions: Vec<Row>,
    pub(super) config_version: String,
    pub(super) config_since: String,
    pub(super) config_refused: Option<(String, String)>,
    pub(super) plots: Vec<Plot>,
}

/// One thing at a glance.
pub(super) struct Tile {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) note: String,
    pub(super) mood: Mood,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Good,
    /// Nothing can be said.
    Unknown,
    Bad,
}

/// A line of a table.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) cells: Vec<String>,
}

/// So large a share of failures is worth a look.
const WORRYING: f64 = 0.1;
/// More profiles for each new visitor than that are too many; a few come without one.
const PROFILES_PER_VISITOR: f64 = 1.01;
const FEW: u64 = 20;

// === impl View ===

impl View {
    pub(super) fn new(facts: &Facts<'_>) -> Self {
        let tiles = vec![
            dressipi(facts),
            store(facts),
            personalised(facts),
            profiles(facts),
            tokens(facts),
            configuration(facts),
        ];
        let bad = tiles.iter().filter(|tile| tile.mood == Mood::Bad);
        let mut concerns: Vec<_> = facts
            .not_ready
            .iter()
            .map(|reason| format!("Not ready: {reason}"))
            .chain(bad.map(|tile| format!("{}: {}", tile.name, tile.note)))
            .collect();
        concerns.extend(failing_upstreams(facts));
        let present = facts.present;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime: span(facts.now.since(facts.started)),
            concerns,
            tiles,
            reasons: reasons(facts),
            calls: calls(facts),
            upstreams: upstreams(facts),
            sessions: sessions(facts),
            config_version: present.version.clone(),
            config_since: ago(facts.now, present.since),
            config_refused: present
                .refused
                .as_ref()
                .map(|refused| (ago(facts.now, refused.at), refused.reason.clone())),
            plots: plots(facts),
        }
    }
}

impl Mood {
    /// The class of the style sheet.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unknown => "unknown",
            Self::Bad => "bad",
        }
    }

    /// The word for those who see no colours.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unknown => "nothing to tell",
            Self::Bad => "look here",
        }
    }
}

// === tiles ===

fn dressipi(facts: &Facts<'_>) -> Tile {
    let calls = sum(facts.lately.came.oauth.values());
    let (value, note, mood) = match calls {
        Answered { all: 0, .. } => (
            "quiet",
            "no OAuth call in the last 5 minutes".into(),
            Mood::Unknown,
        ),
        Answered { all, failed } => {
            let note = format!("{failed} of {all} OAuth calls failed in the last 5 minutes");
            match is_worrying(calls) {
                true => ("failing", note, Mood::Bad),
                false => ("answers", note, Mood::Good),
            }
        }
    };
    tile("Dressipi", value, note, mood)
}

fn store(facts: &Facts<'_>) -> Tile {
    let kind = match &facts.present.config.store {
        StoreSettings::Memory { .. } => "memory",
        StoreSettings::Redb { .. } => "redb",
        StoreSettings::Redis { .. } => "redis",
    };
    let calls = facts.lately.came.store;
    let (note, mood) = if facts.unsaved > 0 {
        let note = format!("{} sessions could not be written yet", facts.unsaved);
        (note, Mood::Bad)
    } else if facts.not_ready.is_some() || is_worrying(calls) {
        let note = format!(
            "{} of {} calls failed in the last 5 minutes",
            calls.failed, calls.all
        );
        (note, Mood::Bad)
    } else {
        let note = match calls.all {
            0 => "no call in the last 5 minutes".into(),
            all => format!("{all} calls in the last 5 minutes, {} failed", calls.failed),
        };
        (note, Mood::Good)
    };
    tile("Store", kind, note, mood)
}

fn personalised(facts: &Facts<'_>) -> Tile {
    let (value, note) = match personalised_share(&facts.present.config, &facts.lately.came) {
        None => ("–".into(), "no request in the last 5 minutes".into()),
        Some(share) => {
            let hour = personalised_share(&facts.present.config, &facts.hour.came);
            let note = format!(
                "of the requests in the last 5 minutes; {} in the last hour",
                hour.map_or("–".into(), percent)
            );
            (percent(share), note)
        }
    };
    // What is a good share depends on the shop: bots and those who opted out have none.
    tile("Personalised", value, note, Mood::Unknown)
}

fn profiles(facts: &Facts<'_>) -> Tile {
    let by_cookie = mints(&facts.present.config);
    let [made, minted] =
        ["profile_created", "visitor_minted"].map(|event| facts.hour.came.event(event));
    let all = facts.totals.event("profile_created");
    if !by_cookie {
        let note = format!("made in the last hour, {all} since the start");
        return tile("Profiles", made.to_string(), note, Mood::Unknown);
    }
    let note = format!(
        "{made} profiles for {minted} new visitors in the last hour, {all} since the start"
    );
    let ratio = made as f64 / minted as f64;
    let (value, mood) = match minted {
        0 => ("–".to_owned(), Mood::Unknown),
        _ if made > FEW && ratio > PROFILES_PER_VISITOR => (format!("{ratio:.2}"), Mood::Bad),
        _ => (format!("{ratio:.2}"), Mood::Good),
    };
    tile("Profiles ÷ visitors", value, note, mood)
}

fn tokens(facts: &Facts<'_>) -> Tile {
    let refreshes = facts
        .hour
        .came
        .oauth
        .get("refresh")
        .copied()
        .unwrap_or_default();
    let lifetime = facts.totals.token_lifetime;
    let value = match lifetime.is_zero() {
        true => "–".to_owned(),
        false => span(lifetime),
    };
    let lost = facts.hour.came.event("token_set_lost");
    let note = format!(
        "is how long tokens live; {} refreshes in the last hour, {} failed, {lost} token sets lost",
        refreshes.all, refreshes.failed
    );
    let mood = match (lifetime.is_zero(), lost > 0 || is_worrying(refreshes)) {
        (true, _) => Mood::Unknown,
        (false, true) => Mood::Bad,
        (false, false) => Mood::Good,
    };
    tile("Tokens", value, note, mood)
}

fn configuration(facts: &Facts<'_>) -> Tile {
    let present = facts.present;
    let (note, mood) = match &present.refused {
        None => (
            format!("taken into use {}", ago(facts.now, present.since)),
            Mood::Good,
        ),
        Some(refused) => (
            format!(
                "what is in the file was refused {}: see below",
                ago(facts.now, refused.at)
            ),
            Mood::Bad,
        ),
    };
    tile("Configuration", present.version.clone(), note, mood)
}

fn tile(name: &'static str, value: impl Into<String>, note: String, mood: Mood) -> Tile {
    Tile {
        name,
        value: value.into(),
        note,
        mood,
    }
}

// === tables ===

fn reasons(facts: &Facts<'_>) -> Vec<Row> {
    let counted = |totals: &Totals| -> BTreeMap<String, u64> {
        let some = totals.anonymous.iter().filter(|(_, count)| **count > 0);
        some.map(|(reason, count)| (reason.clone(), *count))
            .collect()
    };
    let (lately, hour) = (counted(&facts.lately.came), counted(&facts.hour.came));
    let mut rows: Vec<_> = counted(facts.totals).into_iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let of = |counts: &BTreeMap<String, u64>, reason: &str| {
        counts.get(reason).copied().unwrap_or_default().to_string()
    };
    rows.into_iter()
        .map(|(reason, all)| Row {
            cells: vec![of(&lately, &reason), of(&hour, &reason), all.to_string()],
            name: reason,
        })
        .collect()
}

fn calls(facts: &Facts<'_>) -> Vec<Row> {
    let rows = ["authorize", "exchange", "refresh"].map(|call| {
        let of = |totals: &Totals| {
            let Answered { all, failed } = totals.oauth.get(call).copied().unwrap_or_default();
            format!("{all}, {failed} failed")
        };
        Row {
            name: call.to_owned(),
            cells: vec![
                of(&facts.lately.came),
                of(&facts.hour.came),
                of(facts.totals),
            ],
        }
    });
    rows.into()
}

fn upstreams(facts: &Facts<'_>) -> Vec<Row> {
    let rows = facts.upstreams.iter().map(|upstream| {
        let of = |totals: &Totals| {
            let answered = totals.upstreams.get(&upstream.name).copied();
            let Answered { all, failed } = answered.unwrap_or_default();
            format!("{all}, {failed} failed")
        };
        let addresses = match upstream.addresses {
            0 => "not resolved".to_owned(),
            1 => "1 address".to_owned(),
            many => format!("{many} addresses"),
        };
        Row {
            name: upstream.name.clone(),
            cells: vec![
                format!("{} ({addresses})", upstream.address),
                of(&facts.lately.came),
                of(&facts.hour.came),
            ],
        }
    });
    rows.collect()
}

fn failing_upstreams(facts: &Facts<'_>) -> Vec<String> {
    let failing = facts.upstreams.iter().filter_map(|upstream| {
        if upstream.addresses == 0 {
            return Some(format!(
                "Upstream {}: its name cannot be resolved",
                upstream.name
            ));
        }
        let answered = *facts.lately.came.upstreams.get(&upstream.name)?;
        is_worrying(answered).then(|| {
            format!(
                "Upstream {}: {} of {} requests failed in the last 5 minutes",
                upstream.name, answered.failed, answered.all
            )
        })
    });
    failing.collect()
}

fn sessions(facts: &Facts<'_>) -> Vec<Row> {
    let row = |name: &str, count: u64| Row {
        name: name.to_owned(),
        cells: vec![count.to_string()],
    };
    let mut rows = Vec::new();
    if let Some(census) = facts.census {
        rows.extend([
            row("active", census.active),
            row("granted, to be exchanged", census.granted),
            row("authorize answer lost", census.unconfirmed),
            row("lost", census.lost),
        ]);
    }
    rows.push(row("in the cache of this process", facts.cached));
    rows.push(row("not written yet", facts.unsaved));
    rows.push(row("requests in flight", facts.in_flight as u64));
    rows
}

// === plots ===

fn plots(facts: &Facts<'_>) -> Vec<Plot> {
    let config = &facts.present.config;
    let of = |value: &dyn Fn(&Step) -> Option<f64>| -> Vec<Option<f64>> {
        facts.steps.iter().map(value).collect()
    };
    let rate = |count: u64, step: &Step| {
        let seconds = step.took.as_secs_f64();
        (seconds > 0.0).then(|| count as f64 / seconds)
    };
    let per_second = |value: f64| format!("{value:.1}/s");
    let per_minute = |value: f64| format!("{value:.1}/min");
    vec![
        Plot::new(
            "Requests",
            &of(&|step| rate(step.came.requests(), step)),
            1.0,
            per_second,
        ),
        Plot::new(
            "Personalised",
            &of(&|step| personalised_share(config, &step.came)),
            1.0,
            percent,
        ),
        Plot::new(
            "OAuth calls",
            &of(&|step| rate(sum(step.came.oauth.values()).all, step).map(|rate| rate * 60.0)),
            1.0,
            per_minute,
        ),
        Plot::new(
            "Failed requests",
            &of(&|step| {
                rate(sum(step.came.upstreams.values()).failed, step).map(|rate| rate * 60.0)
            }),
            1.0,
            per_minute,
        ),
        Plot::new(
            "99 % of requests within",
            &of(&|step| step.came.quantile(0.99)),
            0.01,
            seconds,
        ),
    ]
}

// === small things ===

/// The share of the requests on routes with a visitor's token that had one.
fn personalised_share(config: &Config, totals: &Totals) -> Option<f64> {
    let personal = config
        .routes
        .iter()
        .filter(|route| route.credentials == Credentials::Visitor);
    let asked: u64 = personal
        .filter_map(|route| totals.routes.get(&route.path))
        .sum();
    let without: u64 = totals.anonymous.values().sum();
    (asked > 0).then(|| asked.saturating_sub(without) as f64 / asked as f64)
}

fn mints(config: &Config) -> bool {
    let mut sources = config
        .listeners
        .iter()
        .flat_map(|listener| &listener.visitor);
    sources.any(|source| *source == crate::visitor::VisitorSource::Cookie)
}

fn is_worrying(answered: Answered) -> bool {
    answered.failed > 0 && answered.failed as f64 >= answered.all as f64 * WORRYING
}

fn sum<'a>(all: impl Iterator<Item = &'a Answered>) -> Answered {
    all.fold(Answered::default(), |sum, one| Answered {
        all: sum.all + one.all,
        failed: sum.failed + one.failed,
    })
}

fn percent(share: f64) -> String {
    // Nothing is rounded up to all.
    let percent = (share * 1000.0).floor() / 10.0;
    format!("{percent:.1} %")
}

fn seconds(value: f64) -> String {
    match value {
        value if value.is_infinite() => "over 5 s".to_owned(),
        value if value < 1.0 => format!("{} ms", (value * 1000.0 * 10.0).round() / 10.0),
        value => format!("{value} s"),
    }
}

fn ago(now: Timestamp, then: Timestamp) -> String {
    format!("{} ago", span(now.since(then)))
}

/// With two units at most.
fn span(duration: Duration) -> String {
    let text = humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
