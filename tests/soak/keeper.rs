//! Whoever runs the sidecar: changes its configuration and its log level, scrapes it, looks at its pages.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::configuration::{ADMIN_TOKEN, Configuration, Fate};
use crate::ground::{Ground, ask, member, pause};
use crate::http::Client;
use crate::sidecar::Sidecar;

/// Changes the configuration again and again: one time in two SIGHUP tells of it, else the file alone.
pub async fn reload(ground: Arc<Ground>, sidecar: Arc<Sidecar>, configuration: Arc<Configuration>) {
    for number in 1.. {
        tokio::time::sleep(ground.scale.reload_every).await;
        let fate = configuration.write(number);
        if number % 2 == 0 {
            sidecar.signal("-HUP");
        }
        let fate = match fate {
            Fate::Used => "used",
            Fate::Refused => "refused",
            Fate::NeedsRestart => "needs a restart",
        };
        *ground.seen.lock().reloads.entry(fate).or_default() += 1;
    }
}

/// Prometheus, in both formats, and somebody who looks at the status page and at sessions.
pub async fn scrape(ground: Arc<Ground>) {
    let mut client = Client::new(Ipv4Addr::LOCALHOST, ground.admin);
    for number in 0_u64.. {
        let (method, path, more, body) = match number % 8 {
            0 | 4 => (
                "GET",
                "/metrics",
                "accept: application/openmetrics-text; version=1.0.0\r\n",
                String::new(),
            ),
            1 => ("GET", "/status", "", String::new()),
            2 => ("GET", "/sessions?limit=50", "", String::new()),
            3 => ("GET", "/readyz", "", String::new()),
            5 => ("GET", "/openapi.json", "", String::new()),
            6 => ("GET", "/sessions/nobody", "", String::new()),
            _ => {
                let level = ["warn", "info", "warn,dressipi_sidecar::session=debug"]
                    [(number / 8 % 3) as usize];
                (
                    "PUT",
                    "/log-level",
                    "content-type: application/json\r\n",
                    format!("{{\"level\":\"{level}\"}}"),
                )
            }
        };
        let length = match body.as_str() {
            "" => String::new(),
            body => format!("content-length: {}\r\n", body.len()),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN_TOKEN}\r\n{more}{length}\r\n{body}"
        );
        let listed = ask(&mut client, request.as_bytes())
            .await
            .map(|answer| match path {
                "/sessions?limit=50" => member(answer.body, "\"visitor\":\"").map(str::to_owned),
                _ => None,
            });
        if let Some(Some(visitor)) = &listed {
            let request = format!(
                "GET /sessions/{visitor} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
            );
            ask(&mut client, request.as_bytes()).await;
        }
        ground.seen.lock().scrapes += u64::from(listed.is_some());
        // Some scrapers keep their connection, some do not.
        if number % 3 == 0 {
            client = Client::new(Ipv4Addr::LOCALHOST, ground.admin);
        }
        pause(200..600).await;
    }
}

/// As it was at first, with everything in use.
pub async fn settle(sidecar: &Sidecar, configuration: &Configuration) {
    configuration.write(0);
    sidecar.signal("-HUP");
    tokio::time::sleep(Duration::from_millis(500)).await;
}
