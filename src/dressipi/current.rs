//! The OAuth client of the present configuration. A call that has begun goes on with the one that it began with.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::client::Client;
use crate::oauth::{
    AuthorizationServer, AuthorizeError, Grant, RefreshToken, TokenAnswer, TokenError,
};

/// A client that can be replaced while it is in use.
pub struct CurrentClient(ArcSwap<Client>);

impl CurrentClient {
    /// Begins with `client`.
    pub fn new(client: Client) -> Self {
        Self(ArcSwap::from_pointee(client))
    }

    /// The calls that begin from here on are `client`'s.
    pub fn replace(&self, client: Client) {
        self.0.store(Arc::new(client));
    }
}

#[async_trait]
impl AuthorizationServer for CurrentClient {
    async fn authorize(&self) -> Result<Grant, AuthorizeError> {
        self.0.load_full().authorize().await
    }

    async fn exchange(&self, grant: Grant) -> Result<TokenAnswer, TokenError> {
        self.0.load_full().exchange(grant).await
    }

    async fn refresh(&self, token: RefreshToken) -> Result<TokenAnswer, TokenError> {
        self.0.load_full().refresh(token).await
    }
}
