//! Reads the two answers. Whatever cannot be read is an error that loses nothing.

use std::time::Duration;

use serde_json::Value;

use super::error::{AuthorizeError, Disturbance, ErrorCode, Misshapen, TokenError};
use super::pkce::State;
use super::token::{AccessToken, AuthorizationCode, MAX_LIFETIME, RefreshToken};
use crate::secret::Secret;

/// An HTTP answer, already bounded in size.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// `Retry-After`, where it was given in seconds.
    pub retry_after: Option<Duration>,
    /// The body; `Err` where it was larger than an OAuth answer may be.
    pub body: Result<Secret, Misshapen>,
}

/// Tokens as the token endpoint gave them (RFC 6749 §5.1).
#[derive(Debug, PartialEq, Eq)]
pub struct TokenAnswer {
    /// The access token.
    pub access: AccessToken,
    /// The refresh token, where a new one was given; otherwise the old one stays.
    pub refresh: Option<RefreshToken>,
    /// How long the access token lives.
    pub expires_in: Duration,
}

/// Longer tokens and codes are refused: no header would carry them.
const MAX_TOKEN: usize = 16 * 1024;

/// Reads the answer to an authorize call that was sent with `sent`.
pub fn parse_authorize(answer: Answer, sent: &State) -> Result<AuthorizationCode, AuthorizeError> {
    if answer.status != 200 {
        return Err(match error_code(&answer) {
            Some(code) => AuthorizeError::Refused(code),
            None => AuthorizeError::Disturbed(disturbance(&answer)),
        });
    }
    let body = object(&answer).map_err(AuthorizeError::Misshapen)?;
    let member = |name| text(&body, name).ok_or(AuthorizeError::Misshapen(Misshapen::Member(name)));
    let returned = member("state")?;
    if !sent.matches(returned.expose()) {
        return Err(AuthorizeError::StateMismatch);
    }
    member("code").map(AuthorizationCode::new)
}

/// Reads the answer of the token endpoint.
pub fn parse_token(answer: Answer) -> Result<TokenAnswer, TokenError> {
    if answer.status != 200 {
        return Err(match error_code(&answer) {
            Some(code) => TokenError::from_code(code, answer.status),
            None => TokenError::Disturbed(disturbance(&answer)),
        });
    }
    let misshapen = |problem, refresh| TokenError::Misshapen { problem, refresh };
    let body = object(&answer).map_err(|problem| misshapen(problem, None))?;

    let refresh = match body.get("refresh_token") {
        None | Some(Value::Null) => None,
        Some(_) => match text(&body, "refresh_token") {
            Some(token) => Some(RefreshToken::new(token)),
            None => return Err(misshapen(Misshapen::Member("refresh_token"), None)),
        },
    };
    let Some(access) = text(&body, "access_token") else {
        return Err(misshapen(Misshapen::Member("access_token"), refresh));
    };
    let Some(expires_in) = expires_in(&body) else {
        return Err(misshapen(Misshapen::Member("expires_in"), refresh));
    };
    let bearer = |kind: &Value| {
        kind.as_str()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"))
    };
    if !body.get("token_type").is_some_and(bearer) {
        return Err(misshapen(Misshapen::Member("token_type"), refresh));
    }
    Ok(TokenAnswer {
        access: AccessToken::new(access),
        refresh,
        expires_in,
    })
}

/// The OAuth error code of a 4xx answer, if it has one. A 5xx with one is no refusal: the server is in trouble.
fn error_code(answer: &Answer) -> Option<ErrorCode> {
    if !(400..500).contains(&answer.status) || answer.status == 429 {
        return None;
    }
    let body = object(answer).ok()?;
    body.get("error")?.as_str().map(ErrorCode::parse)
}

fn disturbance(answer: &Answer) -> Disturbance {
    Disturbance::Unavailable {
        status: answer.status,
        retry_after: answer.retry_after,
    }
}

fn object(answer: &Answer) -> Result<serde_json::Map<String, Value>, Misshapen> {
    let body = answer.body.as_ref().map_err(|problem| *problem)?;
    serde_json::from_str(body.expose()).map_err(|_| Misshapen::NotJson)
}

/// A non-empty text of visible ASCII, as RFC 6749 appendix A.11 to A.17 has it for codes and tokens.
fn text(body: &serde_json::Map<String, Value>, name: &str) -> Option<Secret> {
    let text = body.get(name)?.as_str()?;
    let fits = !text.is_empty()
        && text.len() <= MAX_TOKEN
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| Secret::new(text))
}

/// Whole seconds from one to ten years; anything else is absurd.
fn expires_in(body: &serde_json::Map<String, Value>) -> Option<Duration> {
    let seconds = body.get("expires_in")?.as_u64()?;
    let lifetime = Duration::from_secs(seconds);
    (seconds > 0 && lifetime <= MAX_LIFETIME).then_some(lifetime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            retry_after: None,
            body: Ok(Secret::new(body)),
        }
    }

    const GOOD: &str =
        r#"{"access_token":"a","refresh_token":"r","expires_in":900,"token_type":"Bearer"}"#;

    #[test]
    fn a_good_token_answer_is_read() {
        let tokens = parse_token(answer(200, GOOD)).unwrap();
        assert_eq!(tokens.access.secret().expose(), "a");
        assert_eq!(tokens.refresh.unwrap().secret().expose(), "r");
        assert_eq!(tokens.expires_in, Duration::from_secs(900));
        let kept = parse_token(answer(
            200,
            r#"{"access_token":"a","expires_in":1,"token_type":"bearer"}"#,
        ))
        .unwrap();
        assert!(kept.refresh.is_none());
    }

    #[test]
    fn a_refresh_token_in_an_unreadable_answer_is_kept() {
        for bad in [
            r#"{"refresh_token":"r2","expires_in":900,"token_type":"Bearer"}"#,
            r#"{"access_token":"a","refresh_token":"r2","token_type":"Bearer"}"#,
            r#"{"access_token":"a","refresh_token":"r2","expires_in":-1,"token_type":"Bearer"}"#,
            r#"{"access_token":"a","refresh_token":"r2","expires_in":0,"token_type":"Bearer"}"#,
            r#"{"access_token":"a","refresh_token":"r2","expires_in":1e99,"token_type":"Bearer"}"#,
            r#"{"access_token":"a","refresh_token":"r2","expires_in":18446744073709551615,"token_type":"Bearer"}"#,
            r#"{"access_token":"a","refresh_token":"r2","expires_in":"soon","token_type":"Bearer"}"#,
            r#"{"access_token":"a","refresh_token":"r2","expires_in":900,"token_type":"mac"}"#,
            r#"{"access_token":"a b","refresh_token":"r2","expires_in":900,"token_type":"Bearer"}"#,
        ] {
            match parse_token(answer(200, bad)) {
                Err(TokenError::Misshapen {
                    refresh: Some(token),
                    ..
                }) => {
                    assert_eq!(token.secret().expose(), "r2", "{bad}");
                }
                other => panic!("{bad}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_json_object_is_misshapen() {
        for bad in ["", "<html>", "[]", "null", "\"x\"", "{"] {
            assert!(
                matches!(
                    parse_token(answer(200, bad)),
                    Err(TokenError::Misshapen { refresh: None, .. })
                ),
                "{bad}"
            );
        }
        let large = Answer {
            status: 200,
            retry_after: None,
            body: Err(Misshapen::TooLarge),
        };
        assert!(matches!(
            parse_token(large),
            Err(TokenError::Misshapen {
                problem: Misshapen::TooLarge,
                ..
            })
        ));
    }

    #[test]
    fn only_invalid_grant_is_invalid_grant() {
        let error = |status, body: &str| parse_token(answer(status, body)).unwrap_err();
        assert_eq!(
            error(400, r#"{"error":"invalid_grant"}"#),
            TokenError::InvalidGrant
        );
        for (status, body) in [
            (400, r#"{"error":"invalid_client"}"#),
            (
                400,
                r#"{"error":"invalid_request","error_description":"invalid_grant"}"#,
            ),
            (400, r#"{"error":"unsupported_grant_type"}"#),
            (400, "invalid_grant"),
            (400, r#"{"error":{"message":"invalid_grant"}}"#),
            (500, r#"{"error":"invalid_grant"}"#),
            (429, r#"{"error":"invalid_grant"}"#),
            (503, ""),
            (302, ""),
        ] {
            assert_ne!(
                error(status, body),
                TokenError::InvalidGrant,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn a_foreign_state_gives_no_code() {
        let state = State::generate().unwrap();
        let good = format!(r#"{{"code":"c","state":"{}"}}"#, state.as_str());
        assert!(parse_authorize(answer(200, &good), &state).is_ok());
        let foreign = r#"{"code":"c","state":"other"}"#;
        assert_eq!(
            parse_authorize(answer(200, foreign), &state).unwrap_err(),
            AuthorizeError::StateMismatch
        );
        for bad in [
            r#"{"code":"c"}"#.to_owned(),
            format!(r#"{{"state":"{}"}}"#, state.as_str()),
            "<html>".to_owned(),
        ] {
            let error = parse_authorize(answer(200, &bad), &state).unwrap_err();
            assert!(
                matches!(error, AuthorizeError::Misshapen(_)) && error.is_ambiguous(),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_lost_answer_is_ambiguous_and_a_refusal_is_not() {
        let state = State::generate().unwrap();
        let error = |status, body: &str| parse_authorize(answer(status, body), &state).unwrap_err();
        assert!(!error(400, r#"{"error":"invalid_client"}"#).is_ambiguous());
        assert!(!error(503, "").is_ambiguous());
        assert!(!error(429, "").is_ambiguous());
        assert!(error(504, "").is_ambiguous());
        assert!(error(302, "").is_ambiguous());
        assert!(AuthorizeError::Disturbed(Disturbance::TimedOut).is_ambiguous());
        assert!(!AuthorizeError::Disturbed(Disturbance::NotSent).is_ambiguous());
    }
}
