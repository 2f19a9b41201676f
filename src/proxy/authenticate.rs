//! From an identity to credentials: asks `identity` who it is, the session manager for the token, and the route what to do
//! without one.

use http::HeaderMap;
use pingora::Result;
use rand::TryRng;
use rand::rngs::SysRng;

use super::context::{Exchange, VisitorState};
use super::identity::{AnonymousReason, Identity, identify};
use super::rescue::Rescue;
use super::service::Proxy;
use crate::config::OnUnavailable;
use crate::session::Unavailable;
use crate::visitor::VisitorKey;

impl Proxy {
    /// Who asks; consulted only where the route wants a visitor's token.
    pub(super) fn identify(&self, headers: &HeaderMap, ctx: &mut Exchange) {
        let Some(listener) = ctx.snapshot.listeners.get(self.0.listener) else {
            return;
        };
        let visitors = &ctx.snapshot.visitors;
        let now = self.0.clock.now();
        match identify(headers, &listener.sources, visitors, now, random_id) {
            Identity::Visitor {
                key,
                create,
                set_cookie,
            } => {
                // Nobody can have a session under an id that was made a moment ago: the store need not be asked.
                ctx.visitor = match set_cookie.is_some() && !create {
                    false => VisitorState::Known { key, create },
                    true => VisitorState::Anonymous {
                        key: Some(key),
                        reason: AnonymousReason::Unavailable(Unavailable::NotCreated),
                    },
                };
                ctx.set_cookie = set_cookie;
            }
            Identity::Nobody(reason) => {
                ctx.visitor = VisitorState::Anonymous { key: None, reason };
            }
            Identity::OptedOut { forget } => {
                if let Some(key) = forget {
                    ctx.set_cookie = Some(visitors.jar.expire());
                    self.forget(key);
                }
                ctx.visitor = VisitorState::Anonymous {
                    key: forget,
                    reason: AnonymousReason::OptOut,
                };
            }
        }
    }

    fn forget(&self, key: VisitorKey) {
        let manager = self.0.manager.clone();
        tokio::spawn(async move {
            if let Err(error) = manager.forget(&key).await {
                tracing::error!(visitor = %key, %error, "a visitor who opted out could not be removed from the store");
            }
        });
    }

    /// Gets the visitor's token: from the cache, where it nearly always is, or by whatever it takes. Without one, the
    /// route's policy decides whether the call goes on.
    pub(super) async fn authorize(&self, ctx: &mut Exchange) -> Result<()> {
        let (key, create) = match ctx.visitor {
            VisitorState::Known { key, create } | VisitorState::Authorized { key, create, .. } => {
                (key, create)
            }
            VisitorState::NotAsked | VisitorState::Anonymous { .. } => return check_policy(ctx),
        };
        let result = match self.0.manager.current(&key, self.0.clock.now()) {
            Some(authorized) => Ok(authorized),
            None => self.0.manager.ensure(&key, create).await,
        };
        match result {
            Ok(authorized) => {
                ctx.visitor = VisitorState::Authorized {
                    key,
                    create,
                    authorized,
                };
                Ok(())
            }
            Err(reason) => {
                ctx.visitor = VisitorState::Anonymous {
                    key: Some(key),
                    reason: AnonymousReason::Unavailable(reason),
                };
                check_policy(ctx)
            }
        }
    }
}

/// The policy of the route for a call that goes without the token that it should have.
fn check_policy(ctx: &mut Exchange) -> Result<()> {
    let policy = ctx.expect_route()?.0.on_unavailable;
    match ctx.visitor.anonymous() {
        Some(reason) if policy == OnUnavailable::Reject && reason.is_failure() => {
            ctx.answer_here(Rescue::unavailable(reason))
        }
        _ => Ok(()),
    }
}

fn random_id() -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).ok()?;
    Some(bytes)
}
