//! Dressipi over HTTP: where it is, and the client that speaks OAuth to it.

mod client;
mod current;
mod settings;

pub(crate) use client::api_key_value;
pub use client::{BuildError, Client};
pub use current::CurrentClient;
pub use settings::{
    BaseUrl, BaseUrlError, Headers, REDIRECT_URI, Settings, TemplateError, TokenTemplate,
};
