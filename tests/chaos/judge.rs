//! PURE. What follows from what Dressipi saw: which profiles belong to nobody, and whether anybody could have helped it.
//!
//! A profile without a visitor is excused by one thing only: an answer that never got where it could be stored. Its code or
//! its first tokens were on the way when a fault swallowed them, when the replica was killed, or when it had given up; or
//! they had arrived and the replica was killed before it showed that it had stored them: by exchanging the code, by using
//! the tokens.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::witness::{Call, End, Kind, Seen};

/// An answer that a replica still had not stored after so long was not lost by its death.
const HELD: Duration = Duration::from_secs(15);

/// What became of everybody's profiles, phase by phase.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Authorize and exchange answers that never got where they could be stored.
    pub lost_answers: HashMap<usize, u64>,
    /// Refresh answers that were lost in the same way.
    pub lost_refreshes: HashMap<usize, u64>,
    /// Profiles that nobody ever came as.
    pub nobodys: HashMap<usize, u64>,
    /// Those of them that no lost answer explains, and why not.
    pub unexplained: Vec<String>,
    /// Profiles beyond the first of those that a visitor came as: each is a refresh token lost.
    pub lost_tokens: u64,
}

/// A profile in the simulator's ledger, and in which phase it was made.
pub struct Made {
    pub id: String,
    pub phase: usize,
}

/// Judges what was seen.
pub fn judge(seen: &Seen, made: &[Made]) -> Judgement {
    let mut judgement = Judgement::default();
    let mut calls: HashMap<&str, Vec<&Call>> = HashMap::new();
    for call in &seen.calls {
        if let Some(profile) = &call.profile {
            calls.entry(profile).or_default().push(call);
        }
    }
    let none = Vec::new();
    for call in &seen.calls {
        let of_profile = call.profile.as_deref().and_then(|id| calls.get(id));
        if is_lost(call, of_profile.unwrap_or(&none), seen) {
            let counts = match call.kind {
                Kind::Refresh => &mut judgement.lost_refreshes,
                Kind::Authorize | Kind::Exchange => &mut judgement.lost_answers,
            };
            *counts.entry(call.phase).or_default() += 1;
        }
    }
    for Made { id, phase } in made.iter().filter(|made| !seen.used.contains(&made.id)) {
        *judgement.nobodys.entry(*phase).or_default() += 1;
        let of_profile = calls.get(id.as_str()).unwrap_or(&none);
        if let Some(why) = unexplained(of_profile, seen) {
            judgement.unexplained.push(format!("profile {id}: {why}"));
        }
    }
    let distinct = |profiles: &Vec<String>| profiles.iter().collect::<HashSet<_>>().len() as u64;
    judgement.lost_tokens = seen
        .visitors
        .values()
        .map(|profiles| distinct(profiles).saturating_sub(1))
        .sum();
    judgement
}

/// Whether an answer never got where it could be stored.
fn is_lost(call: &Call, of_profile: &[&Call], seen: &Seen) -> bool {
    match call.end {
        End::InFlight | End::Swallowed => true,
        End::Refused | End::Failed => false,
        End::Answered(at) => {
            let killed = seen.killed.get(&call.by);
            killed.is_some_and(|killed| *killed < at + HELD) && !went_on(call, of_profile, seen)
        }
    }
}

/// Whether something happened that only happens when the answer has been stored.
fn went_on(call: &Call, of_profile: &[&Call], seen: &Seen) -> bool {
    let made = |kind| of_profile.iter().any(|call| call.kind == kind);
    let used = call.profile.as_ref();
    let used = used.is_some_and(|id| seen.used.contains(id));
    match call.kind {
        Kind::Authorize => made(Kind::Exchange),
        Kind::Exchange => used || made(Kind::Refresh),
        // The other way round: if the next refresh of the profile was refused, it came with an older token.
        Kind::Refresh => {
            let later = of_profile
                .iter()
                .skip_while(|other| !std::ptr::eq(**other, call));
            let next = later.skip(1).find(|other| other.kind == Kind::Refresh);
            next.is_none_or(|next| next.end != End::Refused)
        }
    }
}

/// Why a profile that nobody came as should have had a visitor; `None`: an answer was lost.
fn unexplained(of_profile: &[&Call], seen: &Seen) -> Option<String> {
    let exchanges: Vec<_> = of_profile
        .iter()
        .filter(|call| call.kind == Kind::Exchange)
        .collect();
    let deciding = match exchanges.is_empty() {
        false => exchanges.iter().map(|call| **call).collect(),
        true => of_profile.to_vec(),
    };
    // Without a call that names it, its authorize answer was lost.
    let lost = deciding.is_empty() || deciding.iter().any(|call| is_lost(call, of_profile, seen));
    (!lost).then(|| format!("{of_profile:?}"))
}
