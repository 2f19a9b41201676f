//! From what was typed to what it means: defaults, and everything that makes no sense.
//!
//! Each section has its parser; what concerns two of them is checked by the later one of [`parse`]. No parser stops at a
//! problem: it notes it and goes on, so that one run shows them all.

mod client_identity;
mod dressipi;
mod files;
mod listener_tls;
mod listeners;
mod names;
mod process;
mod redis;
mod report;
mod routes;
mod session;
mod traces;
mod upstreams;
mod visitor;

use std::path::Path;

use super::read::Read;
use super::spans::Places;
use super::{Config, Loaded, Problems};
pub(super) use process::check_level;
use report::Report;

/// Decides what a configuration means.
pub(super) fn parse(
    name: &str,
    base_dir: &Path,
    read: Read,
    places: &Places,
) -> Result<Loaded, Problems> {
    let mut report = Report::new(name, base_dir, read, places);
    let file = report.take_file();

    let dressipi = dressipi::parse(&mut report, file.dressipi);
    let cookie = visitor::cookie(&mut report, file.cookie.unwrap_or_default());
    let names = listeners::Names {
        dressipi: &dressipi.headers,
        cookie: &cookie.name,
    };
    let listeners = listeners::parse(&mut report, file.listeners, &names);
    let admin = process::admin(&mut report, file.admin, &listeners);
    let consent = visitor::consent(&mut report, file.consent.unwrap_or_default(), &cookie);
    let creation = visitor::creation(&mut report, file.creation.unwrap_or_default(), &cookie);
    let oauth_timeout = dressipi.settings.as_ref().map(|settings| settings.timeout);
    let (session, store) = session::parse(
        &mut report,
        file.session.unwrap_or_default(),
        &cookie,
        oauth_timeout,
    );
    visitor::recovery(&mut report, &cookie, store.as_ref(), &listeners);
    let upstreams = upstreams::parse(&mut report, file.upstreams);
    let around = routes::Around {
        dressipi: &dressipi,
        listeners: &listeners,
        cookie: &cookie,
        upstreams: &upstreams,
    };
    let routes = routes::parse(&mut report, file.routes, &around);
    let log = process::log(&mut report, file.log.unwrap_or_default());
    let traces = traces::parse(&mut report, file.traces.unwrap_or_default());
    let limits = process::limits(&mut report, file.limits.unwrap_or_default());
    let server = process::server(&mut report, file.server.unwrap_or_default());

    let whole = dressipi
        .settings
        .zip(store)
        .map(|(dressipi, store)| Config {
            listeners,
            dressipi,
            session,
            store,
            cookie,
            consent,
            creation,
            routes,
            upstreams: upstreams.upstreams,
            admin,
            log,
            traces,
            limits,
            server,
        });
    report.finish(whole)
}
