//! One thing that must hold, and what was found.

/// One thing that must hold.
pub struct Demand {
    pub what: String,
    pub found: String,
    pub bound: String,
    /// `None`: it is told and not judged.
    pub holds: Option<bool>,
}

fn demand(what: &str, found: impl ToString, bound: String, holds: bool) -> Demand {
    Demand {
        what: what.to_owned(),
        found: found.to_string(),
        bound,
        holds: Some(holds),
    }
}

/// Just that.
pub fn is<T: PartialEq + ToString>(what: &str, found: T, bound: T) -> Demand {
    demand(what, found.to_string(), bound.to_string(), found == bound)
}

/// No more than `bound`.
pub fn at_most(what: &str, found: u64, bound: u64) -> Demand {
    demand(what, found, format!("at most {bound}"), found <= bound)
}

/// No less than `bound`.
pub fn at_least(what: &str, found: u64, bound: u64) -> Demand {
    demand(what, found, format!("at least {bound}"), found >= bound)
}

/// From `least` to `most`.
pub fn within(what: &str, found: u64, least: u64, most: u64) -> Demand {
    let holds = (least..=most).contains(&found);
    demand(what, found, format!("{least} to {most}"), holds)
}
