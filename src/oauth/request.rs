//! The two requests, as text: where each parameter goes, and nothing else.

use url::form_urlencoded::Serializer;

use super::pkce::{CodeChallenge, State};
use super::token::{Grant, RefreshToken};
use crate::secret::Secret;

/// `GET /api/oauth/authorize` (RFC 6749 §4.1.1, RFC 7636 §4.3).
#[derive(Debug)]
pub struct AuthorizeRequest<'a> {
    /// The client identifier.
    pub client_id: &'a str,
    /// The fixed redirect URI.
    pub redirect_uri: &'a str,
    /// This call's state.
    pub state: &'a State,
    /// The challenge of this call's verifier.
    pub challenge: &'a CodeChallenge,
}

/// `POST /api/oauth/token` (RFC 6749 §4.1.3 and §6, RFC 7636 §4.5).
#[derive(Debug)]
pub enum TokenRequest<'a> {
    /// Exchange a code.
    AuthorizationCode(&'a Grant),
    /// Refresh.
    RefreshToken(&'a RefreshToken),
}

impl AuthorizeRequest<'_> {
    /// The query string.
    pub fn query(&self) -> String {
        Serializer::new(String::new())
            .append_pair("redirect_uri", self.redirect_uri)
            .append_pair("response_type", "code")
            .append_pair("client_id", self.client_id)
            .append_pair("state", self.state.as_str())
            .append_pair("code_challenge", self.challenge.as_str())
            .append_pair("code_challenge_method", "S256")
            .finish()
    }
}

impl TokenRequest<'_> {
    /// The `application/x-www-form-urlencoded` body. Never the URL: URLs are logged.
    pub fn body(&self, client_id: &str, redirect_uri: &str) -> Secret {
        let mut form = Serializer::new(String::new());
        form.append_pair("redirect_uri", redirect_uri)
            .append_pair("client_id", client_id);
        match self {
            Self::AuthorizationCode(grant) => form
                .append_pair("grant_type", "authorization_code")
                .append_pair("code", grant.code.secret().expose())
                .append_pair("code_verifier", grant.verifier.secret().expose()),
            Self::RefreshToken(token) => form
                .append_pair("grant_type", "refresh_token")
                .append_pair("refresh_token", token.secret().expose()),
        };
        Secret::new(form.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::super::pkce::CodeVerifier;
    use super::super::token::AuthorizationCode;
    use super::*;

    const REDIRECT: &str = "urn:ietf:wg:oauth:2.0:oob:auto";

    #[test]
    fn the_authorize_query_has_the_six_parameters_once_each() {
        let state = State::generate().unwrap();
        let challenge = CodeVerifier::generate().unwrap().challenge();
        let request = AuthorizeRequest {
            client_id: "a&b",
            redirect_uri: REDIRECT,
            state: &state,
            challenge: &challenge,
        };
        let query = request.query();
        let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs,
            [
                pair("redirect_uri", REDIRECT),
                pair("response_type", "code"),
                pair("client_id", "a&b"),
                pair("state", state.as_str()),
                pair("code_challenge", challenge.as_str()),
                pair("code_challenge_method", "S256"),
            ]
        );
    }

    #[test]
    fn the_token_body_encodes_what_it_carries() {
        let grant = Grant {
            code: AuthorizationCode::new(Secret::new("c o&d=e")),
            verifier: CodeVerifier::from_stored(Secret::new("v")),
        };
        assert_eq!(
            TokenRequest::AuthorizationCode(&grant)
                .body("id", REDIRECT)
                .expose(),
            "redirect_uri=urn%3Aietf%3Awg%3Aoauth%3A2.0%3Aoob%3Aauto&client_id=id\
             &grant_type=authorization_code&code=c+o%26d%3De&code_verifier=v"
        );
        let token = RefreshToken::new(Secret::new("r+t"));
        assert_eq!(
            TokenRequest::RefreshToken(&token)
                .body("id", REDIRECT)
                .expose(),
            "redirect_uri=urn%3Aietf%3Awg%3Aoauth%3A2.0%3Aoob%3Aauto&client_id=id\
             &grant_type=refresh_token&refresh_token=r%2Bt"
        );
    }
}
