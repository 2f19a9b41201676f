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

/// Decides about an answer to a call that carried a visitor's token. `replayable`: the whole request is still at hand, so that nothing of it is lost by sending it again. A request
/// that was answered 401 or 403 was not carried out, so its method does not matter.
pub(super) fn verdict(
    status: u16,

    already_replayed: bool,
    replayable: bool,
    reject: impl FnOnce() -> Rejection,
) -> Verdict {
    if !matches!(status, 401 | 403) {
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
        let decide = |status, replayed, replayable| {
            verdict(status, replayed, replayable, || Rejection::Replaceable)
        };
        assert_eq!(decide(401, false, true), Verdict::Replay);
        assert_eq!(decide(403, false, true), Verdict::Replay);
        assert_eq!(decide(401, false, false), Verdict::PassOnAndRefresh);
        assert_eq!(decide(401, true, true), Verdict::PassOn);
        assert_eq!(
            verdict(401, false, true, || Rejection::Ignored),
            Verdict::PassOn
        );
        let unasked = || -> Rejection { panic!("only 401 and 403 reject a token") };
        for status in [200, 400, 404, 422, 429, 500] {
            assert_eq!(verdict(status, false, true, unasked), Verdict::PassOn);
        }
    }
}
