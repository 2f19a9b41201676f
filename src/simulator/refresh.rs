//! PURE. The line of refresh tokens of one profile: which of them still work.
//!
//! Each refresh that rotates starts a generation. Where reuse is allowed, the token that was used (the *parent*) still
//! works until one of its successors was used, and every further use of it gives a sibling. Two numbers name a token of a
//! profile, whatever the number of refreshes: nothing is stored for each token.

use super::config::RefreshReuse;

/// One refresh token of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RefreshToken {
    pub(super) generation: u64,
    pub(super) sibling: u64,
}

/// The line of refresh tokens of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// No code was exchanged yet.
    NotYet,
    /// Tokens of this generation work.
    At {
        generation: u64,
        /// How many there are of it.
        siblings: u64,
        /// The token that they came from; `None` for the first generation.
        parent: Option<RefreshToken>,
    },
    /// None works any more.
    Revoked,
}

/// What came of a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It works, and here is its successor; `again`: it had been used before.
    Rotated {
        successor: RefreshToken,
        again: bool,
    },
    /// It works and stays.
    Kept,
    /// It was revoked.
    Revoked,
    /// It was replaced by a newer one.
    Replaced,
}

// === impl RefreshToken ===

impl RefreshToken {
    pub(super) const FIRST: Self = Self {
        generation: 0,
        sibling: 0,
    };
}

// === impl Line ===

impl Line {
    /// The line that an exchange begins.
    pub(super) const fn begun() -> Self {
        Self::At {
            generation: 0,
            siblings: 1,
            parent: None,
        }
    }

    /// Uses a token of this profile.
    pub(super) fn used(&mut self, token: RefreshToken, rotate: bool, reuse: RefreshReuse) -> Use {
        let Self::At {
            generation,
            siblings,
            parent,
        } = self
        else {
            return Use::Revoked;
        };
        if token.generation == *generation && token.sibling < *siblings {
            if !rotate {
                return Use::Kept;
            }
            let successor = RefreshToken {
                generation: *generation + 1,
                sibling: 0,
            };
            *self = Self::At {
                generation: successor.generation,
                siblings: 1,
                parent: Some(token),
            };
            return Use::Rotated {
                successor,
                again: false,
            };
        }
        if reuse == RefreshReuse::UntilSuccessorUsed && *parent == Some(token) {
            let successor = RefreshToken {
                generation: *generation,
                sibling: *siblings,
            };
            *siblings += 1;
            return Use::Rotated {
                successor,
                again: true,
            };
        }
        Use::Replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: RefreshReuse = RefreshReuse::UntilSuccessorUsed;

    /// The successor of a use that must work.
    #[track_caller]
    fn next(line: &mut Line, token: RefreshToken, reuse: RefreshReuse) -> (RefreshToken, bool) {
        match line.used(token, true, reuse) {
            Use::Rotated { successor, again } => (successor, again),
            other => panic!("{token:?}: {other:?}"),
        }
    }

    #[test]
    fn a_strict_line_takes_each_token_once() {
        let mut line = Line::begun();
        let (second, _) = next(&mut line, RefreshToken::FIRST, RefreshReuse::Refused);
        assert_eq!(
            line.used(RefreshToken::FIRST, true, RefreshReuse::Refused),
            Use::Replaced
        );
        let (third, _) = next(&mut line, second, RefreshReuse::Refused);
        assert_eq!(
            line.used(second, true, RefreshReuse::Refused),
            Use::Replaced
        );
        next(&mut line, third, RefreshReuse::Refused);
    }

    #[test]
    fn a_token_whose_successors_were_lost_gives_another_one() {
        let mut line = Line::begun();
        let (lost, again) = next(&mut line, RefreshToken::FIRST, ALLOWED);
        assert!(!again);
        let (lost_too, again) = next(&mut line, RefreshToken::FIRST, ALLOWED);
        assert!(again);
        let (arrived, _) = next(&mut line, RefreshToken::FIRST, ALLOWED);
        assert!(lost != lost_too && lost_too != arrived && lost != arrived);
        next(&mut line, arrived, ALLOWED);
    }

    #[test]
    fn the_use_of_a_successor_ends_its_parent_and_its_siblings() {
        for used in [0, 1] {
            let mut line = Line::begun();
            let siblings = [(); 2].map(|()| next(&mut line, RefreshToken::FIRST, ALLOWED).0);
            let (grandchild, _) = next(&mut line, siblings[used], ALLOWED);
            assert_eq!(line.used(RefreshToken::FIRST, true, ALLOWED), Use::Replaced);
            assert_eq!(line.used(siblings[1 - used], true, ALLOWED), Use::Replaced);
            // But the one that was used is the parent now.
            assert!(next(&mut line, siblings[used], ALLOWED).1);
            next(&mut line, grandchild, ALLOWED);
            assert_eq!(line.used(siblings[used], true, ALLOWED), Use::Replaced);
        }
    }

    #[test]
    fn without_rotation_the_token_stays() {
        let mut line = Line::begun();
        assert_eq!(line.used(RefreshToken::FIRST, false, ALLOWED), Use::Kept);
        assert_eq!(line, Line::begun());
    }

    #[test]
    fn a_token_that_was_never_issued_is_refused_whatever_its_numbers() {
        let mut line = Line::begun();
        let (second, _) = next(&mut line, RefreshToken::FIRST, ALLOWED);
        for (generation, sibling) in [(0, 1), (second.generation, 1), (2, 0)] {
            let token = RefreshToken {
                generation,
                sibling,
            };
            assert_eq!(line.used(token, true, ALLOWED), Use::Replaced, "{token:?}");
        }
        for mut line in [Line::NotYet, Line::Revoked] {
            assert_eq!(line.used(RefreshToken::FIRST, true, ALLOWED), Use::Revoked);
        }
    }
}
