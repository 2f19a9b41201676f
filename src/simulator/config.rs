//! What can be chosen about the simulator: at the start (`SimulatorConfig`) and while it runs (`SettingsPatch`).

use serde::{Deserialize, Deserializer, Serialize};

/// How a simulator starts. Every key has a default, so that `{}` is a working configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulatorConfig {
    /// The client that may ask for profiles.
    pub client_id: String,
    /// Further clients, to see that one client cannot use another's codes and tokens.
    pub other_client_ids: Vec<String>,
    /// The partner's API key. A request with another one is answered 401. `None`: keys are not looked at.
    pub api_key: Option<String>,
    /// Whether a request without any API key is answered 401 too.
    pub require_api_key: bool,
    /// The `iss` claim of access tokens.
    pub issuer: String,
    /// Life of an access token in seconds; told to the client as `expires_in`.
    pub access_token_lifetime_s: u64,
    /// Makes the `exp` claim differ from `expires_in`. The token dies at whichever comes first.
    pub jwt_lifetime_s: Option<u64>,
    /// Life of an authorization code in seconds.
    pub code_lifetime_s: u64,
    /// Whether a refresh returns a new refresh token and ends the old one.
    pub rotate: bool,
    /// What a refresh token is worth whose successor has been issued.
    pub refresh_reuse: RefreshReuse,
    /// Whether the second use of a code revokes what the first one granted (RFC 6749 §4.1.2, a SHOULD).
    pub revoke_on_code_reuse: bool,
    /// Profiles beyond this number are refused with `temporarily_unavailable`: memory stays bounded.
    pub max_profiles: usize,
}

/// What a refresh token is worth whose successor has been issued: servers that rotate differ in this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefreshReuse {
    /// Nothing. An answer lost on its way to the client is a refresh token lost: no client can do anything about it.
    #[default]
    Refused,
    /// It still works, and each use gives one more successor, until one of the successors was used: that one has arrived.
    /// Its siblings end with the old one. In spirit what Auth0 calls the overlap period and Okta the grace period, without
    /// their time limits.
    UntilSuccessorUsed,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            client_id: "demo".into(),
            other_client_ids: Vec::new(),
            api_key: Some("demo-api-key".into()),
            require_api_key: false,
            issuer: "https://dressipi.example".into(),
            access_token_lifetime_s: 900,
            jwt_lifetime_s: None,
            code_lifetime_s: 600,
            rotate: true,
            refresh_reuse: RefreshReuse::Refused,
            revoke_on_code_reuse: false,
            max_profiles: 1_000_000,
        }
    }
}

impl SimulatorConfig {
    /// Whether this client is registered.
    pub(super) fn knows_client(&self, client_id: &str) -> bool {
        self.client_id == client_id || self.other_client_ids.iter().any(|other| other == client_id)
    }

    /// The settings that can change while the simulator runs.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            access_token_lifetime_s: self.access_token_lifetime_s,
            jwt_lifetime_s: self.jwt_lifetime_s,
            code_lifetime_s: self.code_lifetime_s,
            rotate: self.rotate,
            refresh_reuse: self.refresh_reuse,
            revoke_on_code_reuse: self.revoke_on_code_reuse,
            require_api_key: self.require_api_key,
        }
    }

    pub(super) fn apply(&mut self, patch: SettingsPatch) {
        set(
            &mut self.access_token_lifetime_s,
            patch.access_token_lifetime_s,
        );
        set(&mut self.jwt_lifetime_s, patch.jwt_lifetime_s);
        set(&mut self.code_lifetime_s, patch.code_lifetime_s);
        set(&mut self.rotate, patch.rotate);
        set(&mut self.refresh_reuse, patch.refresh_reuse);
        set(&mut self.revoke_on_code_reuse, patch.revoke_on_code_reuse);
        set(&mut self.require_api_key, patch.require_api_key);
    }
}

fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

/// The settings in force, as `POST /__sim/settings` answers them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// See [`SimulatorConfig::access_token_lifetime_s`].
    pub access_token_lifetime_s: u64,
    /// See [`SimulatorConfig::jwt_lifetime_s`].
    pub jwt_lifetime_s: Option<u64>,
    /// See [`SimulatorConfig::code_lifetime_s`].
    pub code_lifetime_s: u64,
    /// See [`SimulatorConfig::rotate`].
    pub rotate: bool,
    /// See [`SimulatorConfig::refresh_reuse`].
    pub refresh_reuse: RefreshReuse,
    /// See [`SimulatorConfig::revoke_on_code_reuse`].
    pub revoke_on_code_reuse: bool,
    /// See [`SimulatorConfig::require_api_key`].
    pub require_api_key: bool,
}

/// A change of some settings; what is absent stays as it is. Tokens already issued keep their life.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsPatch {
    /// See [`SimulatorConfig::access_token_lifetime_s`].
    pub access_token_lifetime_s: Option<u64>,
    /// See [`SimulatorConfig::jwt_lifetime_s`]; JSON `null` (here `Some(None)`) takes the override away.
    #[serde(deserialize_with = "present")]
    pub jwt_lifetime_s: Option<Option<u64>>,
    /// See [`SimulatorConfig::code_lifetime_s`].
    pub code_lifetime_s: Option<u64>,
    /// See [`SimulatorConfig::rotate`].
    pub rotate: Option<bool>,
    /// See [`SimulatorConfig::refresh_reuse`].
    pub refresh_reuse: Option<RefreshReuse>,
    /// See [`SimulatorConfig::revoke_on_code_reuse`].
    pub revoke_on_code_reuse: Option<bool>,
    /// See [`SimulatorConfig::require_api_key`].
    pub require_api_key: Option<bool>,
}

/// Tells a key that is `null` from one that is absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::<u64>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]
    use super::*;

    #[test]
    fn an_empty_configuration_works_and_an_unknown_key_does_not() {
        let config: SimulatorConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(
            (config.client_id.as_str(), config.access_token_lifetime_s),
            ("demo", 900)
        );
        assert!(serde_json::from_str::<SimulatorConfig>(r#"{"rotation":true}"#).is_err());
    }

    #[test]
    fn a_patch_changes_only_what_it_names() {
        let mut config = SimulatorConfig {
            jwt_lifetime_s: Some(5),
            ..Default::default()
        };
        config.apply(serde_json::from_str(r#"{"rotate":false}"#).unwrap());
        assert_eq!(config.refresh_reuse, RefreshReuse::Refused);
        config.apply(serde_json::from_str(r#"{"refresh_reuse":"until_successor_used"}"#).unwrap());
        assert_eq!(config.refresh_reuse, RefreshReuse::UntilSuccessorUsed);
        assert_eq!((config.rotate, config.jwt_lifetime_s), (false, Some(5)));
        config.apply(serde_json::from_str(r#"{"jwt_lifetime_s":null}"#).unwrap());
        assert_eq!(config.jwt_lifetime_s, None);
    }
}
