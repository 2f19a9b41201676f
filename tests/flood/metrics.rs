//! What the sidecar's own counters say.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use crate::http::Client;

/// The counters at one moment.
pub struct Metrics(String);

impl Metrics {
    /// As the admin listener tells them.
    pub async fn read(admin: SocketAddr) -> Self {
        let mut client = Client::new(Ipv4Addr::LOCALHOST, admin);
        let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n";
        let answer = client.ask(request, false).await;
        let answer = answer.expect("the admin listener answers");
        Self(String::from_utf8_lossy(answer.body).into_owned())
    }

    /// The sum over all whose labels have each of these texts.
    pub fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let samples = self.samples(name);
        let chosen = samples.filter(|(has, _)| labels.iter().all(|label| has.contains(label)));
        chosen.map(|(_, value)| value).sum()
    }

    /// Sums by a label's value, where something was counted.
    pub fn by(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        let begin = format!("{label}=\"");
        for (labels, value) in self.samples(name).filter(|(_, value)| *value > 0) {
            let found = labels
                .split_once(&begin)
                .and_then(|(_, rest)| rest.split_once('"'));
            if let Some((found, _)) = found {
                *sums.entry(found.to_owned()).or_default() += value;
            }
        }
        sums
    }

    /// How many series there are, of everything.
    #[allow(dead_code, reason = "the soak run alone counts them")]
    pub fn series(&self) -> usize {
        let lines = self.0.lines();
        lines.filter(|line| !line.starts_with('#')).count()
    }

    fn samples(&self, name: &str) -> impl Iterator<Item = (&str, u64)> {
        let name = format!("dressipi_sidecar_{name}");
        self.0.lines().filter_map(move |line| {
            let (labels, value) = line.strip_prefix(&name)?.rsplit_once(' ')?;
            let labels = match labels.strip_prefix('{') {
                Some(labels) => labels,
                None if labels.is_empty() => labels,
                // Another one, which begins with the same name.
                None => return None,
            };
            Some((labels, value.parse::<f64>().ok()? as u64))
        })
    }
}
