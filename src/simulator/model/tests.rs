#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use super::*;
use crate::simulator::config::RefreshReuse;

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const OTHER_VERIFIER: &str = "1tBnEmtSImyCykPHxHYBdzpSFhKEj0Q1LuiHd4fdDlY";
const NOW: u64 = 1_700_000_000_000;

fn model() -> Model {
    let config = SimulatorConfig {
        other_client_ids: vec!["other".into()],
        ..Default::default()
    };
    Model::new(config, [7; 32])
}

fn authorize(model: &mut Model) -> Authorized {
    let request = AuthorizeRequest {
        client_id: "demo",
        state: "s",
        challenge: CHALLENGE,
    };
    model.authorize(&request, NOW).unwrap()
}

fn exchange_as(
    model: &mut Model,
    client_id: &str,
    code: &str,
    verifier: &str,
    now_ms: u64,
) -> Result<Issued, OauthError> {
    model.token(
        &TokenRequest {
            client_id,
            grant: Grant::AuthorizationCode { code, verifier },
        },
        now_ms,
    )
}

fn exchange(model: &mut Model, code: &str) -> Result<Issued, OauthError> {
    exchange_as(model, "demo", code, VERIFIER, NOW)
}

fn refresh(model: &mut Model, token: &str, now_ms: u64) -> Result<Issued, OauthError> {
    model.token(
        &TokenRequest {
            client_id: "demo",
            grant: Grant::RefreshToken(token),
        },
        now_ms,
    )
}

fn code_of<T>(result: Result<T, OauthError>) -> ErrorCode {
    result.err().unwrap().code
}

#[test]
fn every_authorize_call_creates_a_profile() {
    let mut model = model();
    let (first, second) = (authorize(&mut model), authorize(&mut model));
    assert_ne!(first.profile, second.profile);
    assert_ne!(first.code, second.code);
    assert_eq!(model.profile_count(), 2);
}

#[test]
fn an_unknown_client_gets_no_profile_and_no_token() {
    let mut model = model();
    let request = AuthorizeRequest {
        client_id: "nobody",
        state: "s",
        challenge: CHALLENGE,
    };
    assert_eq!(
        code_of(model.authorize(&request, NOW)),
        ErrorCode::UnauthorizedClient
    );
    assert_eq!(
        code_of(exchange_as(&mut model, "nobody", "c", VERIFIER, NOW)),
        ErrorCode::InvalidClient
    );
    assert_eq!(model.profile_count(), 0);
}

#[test]
fn profiles_stop_at_their_limit() {
    let mut model = model();
    model.config.max_profiles = 1;
    authorize(&mut model);
    let request = AuthorizeRequest {
        client_id: "demo",
        state: "s",
        challenge: CHALLENGE,
    };
    assert_eq!(
        code_of(model.authorize(&request, NOW)),
        ErrorCode::TemporarilyUnavailable
    );
}

#[test]
fn a_code_needs_its_own_verifier_and_a_wrong_one_does_not_spend_it() {
    let mut model = model();
    let code = authorize(&mut model).code;
    assert_eq!(
        code_of(exchange_as(&mut model, "demo", &code, OTHER_VERIFIER, NOW)),
        ErrorCode::InvalidGrant
    );
    assert!(exchange(&mut model, &code).is_ok());
}

#[test]
fn a_code_is_bound_to_its_client() {
    let mut model = model();
    let code = authorize(&mut model).code;
    assert_eq!(
        code_of(exchange_as(&mut model, "other", &code, VERIFIER, NOW)),
        ErrorCode::InvalidGrant
    );
}

#[test]
fn a_code_works_once_and_its_reuse_is_counted() {
    let mut model = model();
    let code = authorize(&mut model).code;
    let issued = exchange(&mut model, &code).unwrap();
    assert_eq!(
        code_of(exchange(&mut model, &code)),
        ErrorCode::InvalidGrant
    );
    assert_eq!(model.counters.code_reuse, 1);
    assert!(refresh(&mut model, &issued.refresh_token.unwrap(), NOW).is_ok());
}

#[test]
fn the_reuse_of_a_code_revokes_what_it_granted_if_told_so() {
    let mut model = model();
    model.config.revoke_on_code_reuse = true;
    let code = authorize(&mut model).code;
    let issued = exchange(&mut model, &code).unwrap();
    assert!(exchange(&mut model, &code).is_err());
    assert_eq!(
        code_of(refresh(&mut model, &issued.refresh_token.unwrap(), NOW)),
        ErrorCode::InvalidGrant
    );
    assert_eq!(
        model.judge(Some(&issued.access_token), NOW),
        Verdict::Unauthorized
    );
}

#[test]
fn a_code_expires() {
    let mut model = model();
    let code = authorize(&mut model).code;
    let late = exchange_as(&mut model, "demo", &code, VERIFIER, NOW + 600_000);
    assert_eq!(code_of(late), ErrorCode::InvalidGrant);
    assert!(exchange_as(&mut model, "demo", &code, VERIFIER, NOW + 599_999).is_ok());
}

#[test]
fn rotation_replaces_the_refresh_token_and_counts_the_reuse_of_the_old_one() {
    let mut model = model();
    let code = authorize(&mut model).code;
    let first = exchange(&mut model, &code).unwrap().refresh_token.unwrap();
    let second = refresh(&mut model, &first, NOW)
        .unwrap()
        .refresh_token
        .unwrap();
    assert_ne!(first, second);
    assert_eq!(
        code_of(refresh(&mut model, &first, NOW)),
        ErrorCode::InvalidGrant
    );
    assert_eq!(model.counters.refresh_reuse, 1);
    assert!(refresh(&mut model, &second, NOW).is_ok());
}

#[test]
fn with_reuse_allowed_a_lost_answer_costs_no_refresh_token() {
    let mut model = model();
    model.config.refresh_reuse = RefreshReuse::UntilSuccessorUsed;
    let code = authorize(&mut model);
    let first = exchange(&mut model, &code.code)
        .unwrap()
        .refresh_token
        .unwrap();
    let mut successor = || {
        refresh(&mut model, &first, NOW)
            .unwrap()
            .refresh_token
            .unwrap()
    };
    let (lost, arrived) = (successor(), successor());
    assert!(lost != arrived, "each answer has a token of its own");
    assert_eq!(
        model.profile_of_refresh_token(&lost),
        Some(code.profile.clone())
    );
    assert_eq!(model.profile_of_code(&code.code), Some(code.profile));
    assert_eq!(
        (model.counters.refresh_again, model.counters.refresh_reuse),
        (1, 0)
    );

    assert!(refresh(&mut model, &arrived, NOW).is_ok());
    for ended in [&first, &lost] {
        assert_eq!(
            code_of(refresh(&mut model, ended, NOW)),
            ErrorCode::InvalidGrant
        );
    }
    assert_eq!(model.counters.refresh_reuse, 2);
}

#[test]
fn without_rotation_the_refresh_token_stays_and_none_is_returned() {
    let mut model = model();
    model.config.rotate = false;
    let code = authorize(&mut model).code;
    let token = exchange(&mut model, &code).unwrap().refresh_token.unwrap();
    for _ in 0..2 {
        assert_eq!(
            refresh(&mut model, &token, NOW).unwrap().refresh_token,
            None
        );
    }
    assert_eq!(model.counters.refresh_reuse, 0);
}

#[test]
fn an_access_token_expires_by_its_whole_seconds_or_sooner() {
    let mut model = model();
    let code = authorize(&mut model).code;
    // Issued half a second past the whole second: the claim is cut off, so the token lives half a second less.
    let issued = exchange_as(&mut model, "demo", &code, VERIFIER, NOW + 500).unwrap();
    let token = Some(issued.access_token.as_str());
    assert_eq!(
        model.judge(token, NOW + 899_999),
        Verdict::Valid(issued.profile.clone())
    );
    assert_eq!(model.judge(token, NOW + 900_000), Verdict::Expired);

    for (jwt_lifetime_s, expires_at) in [(10, NOW + 10_000), (5_000, NOW + 900_500)] {
        model.config.jwt_lifetime_s = Some(jwt_lifetime_s);
        let code = authorize(&mut model).code;
        let issued = exchange_as(&mut model, "demo", &code, VERIFIER, NOW + 500).unwrap();
        assert_eq!(issued.expires_in, 900);
        assert_ne!(
            model.judge(Some(&issued.access_token), expires_at - 1),
            Verdict::Expired
        );
        assert_eq!(
            model.judge(Some(&issued.access_token), expires_at),
            Verdict::Expired
        );
    }
}

#[test]
fn tokens_can_be_expired_rejected_and_revoked_by_request() {
    let mut model = model();
    let code = authorize(&mut model).code;
    let issued = exchange(&mut model, &code).unwrap();
    let old = Some(issued.access_token.as_str());
    model.expire_tokens(ExpiredAs::Unauthorized);
    assert_eq!(model.judge(old, NOW), Verdict::Unauthorized);
    model.expire_tokens(ExpiredAs::Unpersonalised);
    assert_eq!(model.judge(old, NOW), Verdict::Ignored);

    let renewed = refresh(&mut model, &issued.refresh_token.unwrap(), NOW).unwrap();
    assert_eq!(
        model.judge(Some(&renewed.access_token), NOW),
        Verdict::Valid(issued.profile)
    );
    model.reject(&renewed.access_token);
    assert_eq!(
        model.judge(Some(&renewed.access_token), NOW),
        Verdict::Unauthorized
    );

    let waiting = authorize(&mut model).code;
    model.revoke_refresh_tokens();
    assert_eq!(
        code_of(refresh(&mut model, &renewed.refresh_token.unwrap(), NOW)),
        ErrorCode::InvalidGrant
    );
    assert!(exchange(&mut model, &waiting).is_ok());
}

#[test]
fn garbage_and_tokens_of_another_simulator_are_foreign() {
    let (mut ours, mut theirs) = (model(), Model::new(SimulatorConfig::default(), [8; 32]));
    authorize(&mut ours);
    let code = authorize(&mut theirs).code;
    let token = exchange(&mut theirs, &code).unwrap().access_token;
    assert_eq!(ours.judge(Some(&token), NOW), Verdict::Foreign);
    assert_eq!(ours.judge(Some("garbage"), NOW), Verdict::Foreign);
    assert_eq!(ours.judge(None, NOW), Verdict::Absent);
    assert_eq!(ours.profile_of(&token), None);
}
