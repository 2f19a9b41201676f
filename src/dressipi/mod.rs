//! Dressipi over HTTP: where it is, and the client that speaks OAuth to it.

mod client;
mod settings;

pub(crate) use client::api_key_value;
pub use client::{BuildError, Client};
pub use settings::{
    BaseUrl, BaseUrlError, Headers, REDIRECT_URI, Settings, TemplateError, TokenTemplate,
};
