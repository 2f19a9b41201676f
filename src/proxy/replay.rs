//! PURE: what follows from a 401 or 403 of a resource endpoint.

use crate::session::Rejection;

/// What to do with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Hand it to the client.
    PassOn,
    /// Hand it to the client, and fetch another token for the next request.
    PassOnAndRefresh,
    /// Drop it, fetch another token, and send the request once more.
    Replay,
}

/// Decides. `replayable`: the whole request is still at hand, so that nothing of it is lost by sending it again. A request
/// that was answered 401 or 403 was not carried out, so its method does not matter.
pub(super) fn verdict(
    status: u16,
    sent_token: bool,
    already_replayed: bool,
    replayable: bool,
    reject: impl FnOnce() -> Rejection,
) -> Verdict {
    if !sent_token || !matches!(status, 401 | 403) {
        return Verdict::PassOn;
    }
    match reject() {
        Rejection::Ignored => Verdict::PassOn,
        Rejection::Replaceable if already_replayed => Verdict::PassOn,
        Rejection::Replaceable if replayable => Verdict::Replay,
        Rejection::Replaceable => Verdict::PassOnAndRefresh,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_rejected_token_of_ours_is_replaced_and_only_once() {
        let decide = |status, sent, replayed, replayable| {
            verdict(status, sent, replayed, replayable, || {
                Rejection::Replaceable
            })
        };
        assert_eq!(decide(401, true, false, true), Verdict::Replay);
        assert_eq!(decide(403, true, false, true), Verdict::Replay);
        assert_eq!(decide(401, true, false, false), Verdict::PassOnAndRefresh);
        assert_eq!(decide(401, true, true, true), Verdict::PassOn);
        for status in [200, 400, 404, 422, 429, 500] {
            assert_eq!(decide(status, true, false, true), Verdict::PassOn);
        }
        assert_eq!(
            verdict(401, true, false, true, || Rejection::Ignored),
            Verdict::PassOn
        );
        let unasked = || -> Rejection { panic!("a call without a token rejects none") };
        assert_eq!(verdict(401, false, false, true, unasked), Verdict::PassOn);
    }
}
