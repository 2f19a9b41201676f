//! From an identity to credentials: asks `identity` who it is, the session manager for the token, and the route what to do
//! without one.

use std::time::Instant;

use http::HeaderMap;
use pingora::Result;
use pingora::proxy::Session as HttpExchange;
use rand::TryRng;
use rand::rngs::SysRng;

use super::context::{Exchange, VisitorState};
use super::forwarded;
use super::identity::{AnonymousReason, Carries, Identity, Trust, identify};
use super::rescue::Rescue;
use super::service::Proxy;
use crate::clock::Timestamp;
use crate::config::OnUnavailable;
use crate::oauth::VendorToken;
use crate::session::{Authorized, Creation, Marker, Recovery, Remember, Unavailable, on_behalf_of};
use crate::visitor::{
    Arrival, Client, Cookies, CreationRules, Limit, Lookup, Seen, VisitorId, VisitorKey, may_create,
};

impl Proxy {
    /// Who asks; consulted only where the route wants a visitor's token.
    pub(super) fn identify(&self, exchange: &HttpExchange, ctx: &mut Exchange) {
        let request = exchange.req_header();
        let headers = &request.headers;
        let Some(listener) = ctx.snapshot.listeners.get(self.0.listener) else {
            return;
        };
        let visitors = &ctx.snapshot.visitors;
        let peer = || exchange.client_addr()?.as_inet().map(|peer| peer.ip());
        let trust = Trust {
            sources: &listener.sources,
            vouches: &|| listener.identity_peers.include(peer),
        };
        match identify(headers, trust, visitors, ctx.now, random_id) {
            Identity::Visitor {
                key,
                arrival,
                set_cookie,
                carries,
                place,
            } => {
                ctx.cookie_place = place;
                // Nobody can have a session under an id that was made a moment ago: unless a profile may be made for it, the
                // store need not be asked.
                let may = match arrival {
                    Arrival::New
                        if vendor_token(headers, &visitors.creation, ctx.now).is_none() =>
                    {
                        may_create(&request.method, headers, arrival, &visitors.creation)
                    }
                    Arrival::New | Arrival::Returning | Arrival::Vouched => Ok(()),
                };
                ctx.visitor = match may {
                    Ok(()) => VisitorState::Known { key, arrival },
                    Err(withheld) => VisitorState::Anonymous {
                        key: Some(key),
                        reason: AnonymousReason::Withheld(withheld),
                    },
                };
                if arrival == Arrival::New {
                    self.0.metrics.visitor_minted();
                }
                ctx.set_cookies.extend(set_cookie);
                ctx.carries = carries;
            }
            Identity::Nobody(reason) => {
                ctx.visitor = VisitorState::Anonymous { key: None, reason };
            }
            Identity::OptedOut {
                forget,
                has_cookies,
            } => {
                if has_cookies {
                    ctx.set_cookies.extend(visitors.jar.expire());
                }
                let remember = match visitors.jar.recovery_name() {
                    Some(_) => Remember::WhileCookiesLast,
                    None => Remember::ADay,
                };
                forget.iter().for_each(|key| self.forget(*key, remember));
                ctx.visitor = VisitorState::Anonymous {
                    key: forget.first().copied(),
                    reason: AnonymousReason::OptOut,
                };
            }
        }
    }

    fn forget(&self, key: VisitorKey, remember: Remember) {
        let manager = self.0.manager.clone();
        tokio::spawn(async move {
            if let Err(error) = manager.forget(&key, remember).await {
                tracing::error!(visitor = %key, %error, "a visitor who opted out could not be removed from the store yet");
            }
        });
    }

    /// Gets the visitor's token: from the cache, where it nearly always is, or by whatever it takes. Without one, the
    /// route's policy decides whether the call goes on.
    pub(super) async fn authorize(
        &self,
        exchange: &HttpExchange,
        ctx: &mut Exchange,
    ) -> Result<()> {
        let request = exchange.req_header();
        let headers = &request.headers;
        let (key, arrival) = match &ctx.visitor {
            VisitorState::Known { key, arrival } => (*key, *arrival),
            VisitorState::Authorized {
                arrival,
                authorized,
            } => (*authorized.visitor(), *arrival),
            VisitorState::NotAsked | VisitorState::Anonymous { .. } => return check_policy(ctx),
        };
        let result = match self.0.manager.current(&key, ctx.now) {
            Some(authorized) => Ok(authorized),
            None => {
                let visitors = &ctx.snapshot.visitors;
                let may = may_create(&request.method, headers, arrival, &visitors.creation);
                let recovery = ctx.carries.and_then(|Carries { id, .. }| {
                    match Seen::in_headers(headers, &visitors.consent, &visitors.jar).recovery {
                        Lookup::One(value) => Some(Recovery { id, value }),
                        _ => None,
                    }
                });
                let spend = || self.spend(exchange, arrival, ctx);
                let creation = match may {
                    Ok(()) => Creation::Limited {
                        // Under an id that was made for this request nobody can have a record, unless this request got it.
                        is_new: arrival == Arrival::New
                            && matches!(ctx.visitor, VisitorState::Known { .. }),
                        spend: &spend,
                    },
                    Err(_) => Creation::Never,
                };
                let manager = &self.0.manager;
                // Boxed, so that the requests that need not wait do not carry the room for waiting along.
                let vendor = vendor_token(headers, &visitors.creation, ctx.now);
                let ensuring = async {
                    match &vendor {
                        None => manager.ensure_or_recover(&key, creation, recovery).await,
                        Some(vendor) => {
                            let unknown = arrival == Arrival::New;
                            manager
                                .ensure_or_adopt(&key, creation, recovery, vendor, unknown)
                                .await
                        }
                    }
                };
                let begun = Instant::now();
                let result = Box::pin(on_behalf_of(ctx.traced.context(), ensuring)).await;
                *ctx.token_wait.get_or_insert_default() += begun.elapsed();
                if result.as_ref().is_ok_and(Authorized::is_adopted) {
                    self.0.metrics.adopted();
                }
                ctx.now = self.0.clock.now();
                result.map_err(|reason| match (reason, may) {
                    (Unavailable::NotCreated, Err(withheld)) => AnonymousReason::Withheld(withheld),
                    _ => AnonymousReason::Unavailable(reason),
                })
            }
        };
        match result {
            Ok(authorized) => {
                if let Some(carries) = ctx.carries
                    && carries.marker != Some(Marker::of(&authorized))
                    && !authorized.is_adopted()
                {
                    Box::pin(self.carry(carries.id, &key, ctx)).await;
                }
                ctx.visitor = VisitorState::Authorized {
                    arrival,
                    authorized,
                };
                Ok(())
            }
            Err(reason) => {
                ctx.visitor = VisitorState::Anonymous {
                    key: Some(key),
                    reason,
                };
                check_policy(ctx)
            }
        }
    }

    /// Spends one profile of what the limits allow.
    fn spend(
        &self,
        exchange: &HttpExchange,
        arrival: Arrival,
        ctx: &Exchange,
    ) -> std::result::Result<(), Limit> {
        let listener = ctx.snapshot.listeners.get(self.0.listener);
        // An app vouches for its visitors, who all come from its one address.
        let client = listener
            .filter(|_| arrival != Arrival::Vouched)
            .and_then(|listener| {
                let peer = exchange.client_addr().and_then(|peer| peer.as_inet());
                let peer = peer.map(|peer| peer.ip());
                let proxies = &listener.trusted_proxies;
                let headers = &exchange.req_header().headers;
                forwarded::client(headers, peer, proxies).map(Client::of)
            });
        let limits = &ctx.snapshot.visitors.creation.limits;
        self.0
            .spent
            .lock()
            .spend(client, limits, self.0.clock.now())
    }

    /// Has the visitor carry the present token set.
    async fn carry(&self, id: VisitorId, key: &VisitorKey, ctx: &mut Exchange) {
        let Some(value) = self.0.manager.recovery_cookie(key, &id).await else {
            return;
        };
        let marker = Marker::of_value(value.as_bytes());
        ctx.carries = Some(Carries { id, marker });
        ctx.set_recovery = Some(ctx.snapshot.visitors.jar.set_recovery(&value));
    }
}

/// The token of the vendor's that the request carries, where such are adopted: once, and unexpired.
fn vendor_token(headers: &HeaderMap, rules: &CreationRules, now: Timestamp) -> Option<VendorToken> {
    let name = rules.adopt_cookie.as_ref()?;
    match Cookies::new(headers).find(name.as_bytes()) {
        Lookup::One(value) => VendorToken::read(value, now),
        Lookup::Absent | Lookup::Ambiguous => None,
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
