//! What answers tell of how they came about, where that is switched on: `Server-Timing` (W3C) and the state of the visitor's token. No id
//! and nothing of a token is in either.

use http::HeaderName;
use pingora::http::ResponseHeader;

use super::context::{Exchange, VisitorState};
use super::headers::SIDECAR;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Adds what is switched on to an answer. Why a call went without its token is said in any case.
pub(super) fn tell(answer: &mut ResponseHeader, ctx: &Exchange) {
    if let Some(reason) = ctx.visitor.anonymous() {
        // Where the sidecar rejects the call, its answer says so already.
        if !answer.headers.contains_key(SIDECAR) {
            let state = format!("anonymous; reason={}", reason.label());
            let _ = answer.insert_header(SIDECAR, state);
        }
    } else if ctx.snapshot.token_state_header {
        let _ = answer.insert_header(SIDECAR, state(ctx));
    }
    if ctx.snapshot.server_timing {
        // Beside what the upstream tells of itself.
        let _ = answer.append_header(SERVER_TIMING, timing(ctx));
    }
}

fn state(ctx: &Exchange) -> &'static str {
    match &ctx.visitor {
        VisitorState::Authorized { authorized, .. } if authorized.is_adopted() => {
            "visitor; source=client"
        }
        VisitorState::Authorized { .. } if ctx.token_wait.is_some() => "visitor; source=flow",
        VisitorState::Authorized { .. } => "visitor; source=cache",
        // Only where the exchange ended before the token was asked for.
        VisitorState::Known { .. } => "pending",
        VisitorState::NotAsked | VisitorState::Anonymous { .. } => "none",
    }
}

/// In milliseconds: the upstream's part, the wait for a token where there was one, and the rest.
fn timing(ctx: &Exchange) -> String {
    let millis = |took: std::time::Duration| took.as_secs_f64() * 1000.0;
    let upstream = ctx.upstream_took.unwrap_or_default();
    let token = ctx.token_wait.unwrap_or_default();
    let own = ctx.begun.elapsed().saturating_sub(upstream + token);
    let mut parts = vec![format!("sidecar;dur={:.3}", millis(own))];
    if ctx.token_wait.is_some() {
        parts.push(format!("token;dur={:.3}", millis(token)));
    }
    if ctx.upstream_took.is_some() {
        parts.push(format!("upstream;dur={:.3}", millis(upstream)));
    }
    parts.join(", ")
}
