//! PURE. Turns OAuth parameters into typed requests, as strictly as RFC 6749 allows.
//!
//! A parameter that comes twice is an error (§3.1, §3.2); one without a value counts as absent; unknown ones are ignored.

use super::pkce;

/// The only redirect URI: out of band, no browser involved.
pub(super) const REDIRECT_URI: &str = "urn:ietf:wg:oauth:2.0:oob:auto";

/// An error as the client gets to see it (RFC 6749 §4.1.2.1 and §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {description}", .code.as_str())]
pub(super) struct OauthError {
    pub(super) code: ErrorCode,
    pub(super) description: &'static str,
}

/// The registered error codes that the simulator uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorCode {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    UnauthorizedClient,
    UnsupportedGrantType,
    UnsupportedResponseType,
    TemporarilyUnavailable,
}

/// Parameters of one request, each name at most once.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

/// A well-formed authorize request.
#[derive(Debug)]
pub(super) struct AuthorizeRequest<'a> {
    pub(super) client_id: &'a str,
    pub(super) state: &'a str,
    pub(super) challenge: &'a str,
}

/// A well-formed token request.
#[derive(Debug)]
pub(super) struct TokenRequest<'a> {
    pub(super) client_id: &'a str,
    pub(super) grant: Grant<'a>,
}

/// What a token request trades in.
#[derive(Debug)]
pub(super) enum Grant<'a> {
    AuthorizationCode { code: &'a str, verifier: &'a str },
    RefreshToken(&'a str),
}

// === impl ErrorCode ===

impl ErrorCode {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
        }
    }

    pub(super) fn because(self, description: &'static str) -> OauthError {
        OauthError {
            code: self,
            description,
        }
    }
}

fn invalid(description: &'static str) -> OauthError {
    ErrorCode::InvalidRequest.because(description)
}

// === impl Params ===

impl Params {
    /// Reads `application/x-www-form-urlencoded` parts, which together may name a parameter only once.
    pub(super) fn parse(parts: &[&[u8]]) -> Result<Self, OauthError> {
        let mut params = Self::default();
        for (name, value) in parts
            .iter()
            .flat_map(|part| url::form_urlencoded::parse(part))
        {
            if params.0.iter().any(|(known, _)| *known == name) {
                return Err(invalid("a parameter is repeated"));
            }
            params.0.push((name.into_owned(), value.into_owned()));
        }
        Ok(params)
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, value)| known == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    fn required(&self, name: &str, missing: &'static str) -> Result<&str, OauthError> {
        self.value(name).ok_or(invalid(missing))
    }

    /// The authorize request in these parameters.
    pub(super) fn authorize(&self) -> Result<AuthorizeRequest<'_>, OauthError> {
        let client_id = self.required("client_id", "client_id is missing")?;
        if self.required("redirect_uri", "redirect_uri is missing")? != REDIRECT_URI {
            return Err(invalid("redirect_uri is not the registered one"));
        }
        if self.required("response_type", "response_type is missing")? != "code" {
            return Err(ErrorCode::UnsupportedResponseType.because("response_type must be code"));
        }
        let state = self.required("state", "state is missing")?;
        let challenge = self.required("code_challenge", "code_challenge is missing")?;
        if self.required("code_challenge_method", "code_challenge_method is missing")? != "S256" {
            return Err(invalid("code_challenge_method must be S256"));
        }
        if !pkce::is_challenge(challenge) {
            return Err(invalid("code_challenge is not the base64url of a SHA-256"));
        }
        Ok(AuthorizeRequest {
            client_id,
            state,
            challenge,
        })
    }

    /// The token request in these parameters.
    pub(super) fn token(&self) -> Result<TokenRequest<'_>, OauthError> {
        let grant_type = self.required("grant_type", "grant_type is missing")?;
        let client_id = self.required("client_id", "client_id is missing")?;
        let redirect_uri = self.required("redirect_uri", "redirect_uri is missing")?;
        let grant = match grant_type {
            "authorization_code" => {
                let code = self.required("code", "code is missing")?;
                let verifier = self.required("code_verifier", "code_verifier is missing")?;
                if !pkce::is_verifier(verifier) {
                    return Err(invalid(
                        "code_verifier is not 43 to 128 unreserved characters",
                    ));
                }
                if redirect_uri != REDIRECT_URI {
                    return Err(ErrorCode::InvalidGrant
                        .because("redirect_uri is not the one of the authorize call"));
                }
                Grant::AuthorizationCode { code, verifier }
            }
            "refresh_token" if redirect_uri != REDIRECT_URI => {
                return Err(invalid("redirect_uri is not the registered one"));
            }
            "refresh_token" => {
                Grant::RefreshToken(self.required("refresh_token", "refresh_token is missing")?)
            }
            _ => {
                return Err(
                    ErrorCode::UnsupportedGrantType.because("authorization_code or refresh_token")
                );
            }
        };
        Ok(TokenRequest { client_id, grant })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test may panic")]
    use super::*;

    const GOOD: &str = "redirect_uri=urn:ietf:wg:oauth:2.0:oob:auto&response_type=code&client_id=demo&state=s\
        &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";

    #[test]
    fn each_of_the_six_authorize_parameters_is_required_once_and_right() {
        assert_eq!(
            Params::parse(&[GOOD.as_bytes()])
                .unwrap()
                .authorize()
                .unwrap()
                .state,
            "s"
        );
        for pair in GOOD.split('&') {
            let name = pair.split('=').next().unwrap();
            let without = GOOD.replace(pair, "");
            assert!(
                Params::parse(&[without.as_bytes()])
                    .unwrap()
                    .authorize()
                    .is_err(),
                "without {name}"
            );
            let empty = GOOD.replace(pair, &format!("{name}="));
            assert!(
                Params::parse(&[empty.as_bytes()])
                    .unwrap()
                    .authorize()
                    .is_err(),
                "empty {name}"
            );
            let twice = format!("{GOOD}&{pair}");
            assert_eq!(
                Params::parse(&[twice.as_bytes()]).unwrap_err().code,
                ErrorCode::InvalidRequest
            );
            if name != "client_id" && name != "state" {
                let wrong = GOOD.replace(pair, &format!("{name}=wrong"));
                assert!(
                    Params::parse(&[wrong.as_bytes()])
                        .unwrap()
                        .authorize()
                        .is_err(),
                    "wrong {name}"
                );
            }
        }
    }

    #[test]
    fn a_parameter_in_both_query_and_body_is_repeated() {
        assert!(Params::parse(&[b"client_id=a", b"client_id=a"]).is_err());
        assert!(Params::parse(&[b"client_id=a", b"code=b"]).is_ok());
    }
}
