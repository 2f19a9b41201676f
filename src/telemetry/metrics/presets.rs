//! Series that are there before anything has happened, for all label values that are fixed.

use super::Metrics;
use crate::oauth::{AuthorizeError, TokenError};
use crate::session::{Call, LeaseEvent, Note, StoreCall, Unavailable};

impl Metrics {
    /// Series whose values this layer knows.
    pub(super) fn preset(&self) {
        for result in ["ok", "error", "restart"] {
            self.config_reloads.with_label_values(&[result]);
        }
        for result in ["exported", "rejected", "failed", "dropped"] {
            self.trace_spans.with_label_values(&[result]);
        }
        for result in ["ok", "error"] {
            self.certificate_reloads.with_label_values(&[result]);
            for call in StoreCall::ALL {
                self.store_calls.with_label_values(&[call.label(), result]);
            }
        }
        for call in StoreCall::ALL {
            self.store_duration.with_label_values(&[call.label()]);
        }
        for call in Call::ALL {
            self.oauth_duration.with_label_values(&[call.label()]);
            self.preset_oauth_results(call);
        }
        for event in Note::ALL.map(Note::label).into_iter().chain([MINTED]) {
            self.visitor_events.with_label_values(&[event]);
        }
        for reason in Unavailable::ALL {
            self.flow_failures.with_label_values(&[reason.label()]);
        }
        for event in LeaseEvent::ALL {
            self.leases.with_label_values(&[event.label()]);
        }
        for action in ["refreshed", "ignored"] {
            self.rejections.with_label_values(&[action]);
        }
    }

    fn preset_oauth_results(&self, call: Call) {
        let preset = |result| {
            self.oauth_calls.with_label_values(&[call.label(), result]);
        };
        preset("ok");
        match call {
            Call::Authorize => AuthorizeError::labels().for_each(preset),
            Call::Exchange | Call::Refresh => TokenError::labels().for_each(preset),
        }
    }

    /// Why the gate refuses requests, and connections.
    pub fn preset_refusals(
        &self,
        requests: impl Iterator<Item = &'static str>,
        connections: impl IntoIterator<Item = &'static str>,
    ) {
        for reason in requests {
            self.refused.with_label_values(&[reason]);
        }
        for limit in connections {
            self.connections_refused.with_label_values(&[limit]);
        }
    }

    /// Why requests on `route` may go without a token.
    pub fn preset_unpersonalised(&self, route: &str, reasons: impl Iterator<Item = &'static str>) {
        for reason in reasons {
            self.unpersonalised.with_label_values(&[route, reason]);
        }
    }
}

/// The event of a client that was given a visitor cookie.
pub(super) const MINTED: &str = "visitor_minted";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::oauth::{Disturbance, ErrorCode, Misshapen};
    use crate::session::Observer;
    use crate::telemetry::Reading;

    fn series(metrics: &Metrics) -> Vec<String> {
        let text = metrics.render(Reading::default());
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let names = lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()));
        names.collect()
    }

    #[test]
    fn no_event_of_a_fixed_word_brings_a_series_that_was_not_there() {
        let metrics = Metrics::new();
        let before = series(&metrics);
        let took = Duration::from_millis(1);
        let unavailable = Disturbance::Unavailable {
            status: 429,
            retry_after: None,
        };
        for error in [
            AuthorizeError::Refused(ErrorCode::AccessDenied),
            AuthorizeError::Disturbed(Disturbance::NotSent),
            AuthorizeError::Disturbed(unavailable),
            AuthorizeError::Misshapen(Misshapen::NotJson),
            AuthorizeError::StateMismatch,
            AuthorizeError::NoRandomness,
        ] {
            metrics.oauth_call(Call::Authorize, error.label(), took);
        }
        for error in [
            TokenError::InvalidGrant,
            TokenError::Refused(ErrorCode::Other),
            TokenError::Disturbed(Disturbance::AnswerLost),
            TokenError::Disturbed(Disturbance::TimedOut),
            TokenError::Disturbed(Disturbance::Unavailable {
                status: 500,
                retry_after: None,
            }),
            TokenError::Misshapen {
                problem: Misshapen::NotJson,
                refresh: None,
            },
        ] {
            metrics.oauth_call(Call::Exchange, error.label(), took);
            metrics.oauth_call(Call::Refresh, error.label(), took);
        }
        metrics.store_call(StoreCall::Save, false, took);
        metrics.note(Note::ErasurePostponed);
        metrics.visitor_minted();
        metrics.flow_failed(Unavailable::Internal);
        metrics.lease(LeaseEvent::Ended);
        metrics.token_rejected(true);
        metrics.token_rejected(false);
        metrics.config_reloaded("restart");
        metrics.certificate_reloaded("error");
        assert_eq!(series(&metrics), before);
    }
}
