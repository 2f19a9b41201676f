//! OAuth 2.0 (RFC 6749) with PKCE (RFC 7636), as Dressipi speaks it.
//!
//! PURE: builds requests, reads answers, names errors. It touches neither clock, network nor disk, and it decides nothing
//! about visitors. The one exception is the system's random generator, behind [`CodeVerifier::generate`] and
//! [`State::generate`].

mod answer;
mod error;
mod pkce;
mod request;
mod token;
mod vendor;

pub use answer::{Answer, TokenAnswer, parse_authorize, parse_token};
pub use error::{AuthorizeError, Disturbance, ErrorCode, Misshapen, TokenError};
pub use pkce::{CodeChallenge, CodeVerifier, RandomError, State};
pub use request::{AuthorizeRequest, TokenRequest};
pub use token::{
    AccessToken, AuthorizationCode, Claims, Grant, RefreshToken, TokenFingerprint, TokenSet,
};
pub use vendor::VendorToken;

use async_trait::async_trait;

/// The authorization server, as the session manager sees it.
#[async_trait]
pub trait AuthorizationServer: Send + Sync + 'static {
    /// Runs one authorize call with a fresh verifier. **Each call creates a profile.**
    async fn authorize(&self) -> Result<Grant, AuthorizeError>;

    /// Exchanges a code for tokens. The grant is consumed: a code is good for one call.
    async fn exchange(&self, grant: Grant) -> Result<TokenAnswer, TokenError>;

    /// Refreshes.
    async fn refresh(&self, token: RefreshToken) -> Result<TokenAnswer, TokenError>;
}
