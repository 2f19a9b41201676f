use std::time::Duration;

use reqwest::Method;
use serde_json::Value;

use super::{Sidecar, canary};

/// What `/sessions…` asks for.
pub const ADMIN_TOKEN: &str = "a-token-that-nobody-guesses";
/// The keys of `[admin]` that set it.
pub const ADMIN_KEYS: &str = "token = \"a-token-that-nobody-guesses\"";

/// An answer of the admin listener, searched for secrets.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

impl Sidecar {
    /// Asks `/sessions…` with the token.
    pub async fn sessions(&self, method: Method, path: &str) -> Answer {
        self.sessions_with(method, path, String::new()).await
    }

    pub async fn sessions_with(&self, method: Method, path: &str, body: String) -> Answer {
        let url = format!("http://{}/sessions{path}", self.admin_address());
        let request = self.client.request(method, url).body(body);
        let request = request.timeout(Duration::from_secs(30));
        let answer = request.bearer_auth(ADMIN_TOKEN).send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.unwrap();
        canary::search(
            "an answer of the admin listener",
            &format!("{headers:?}\n{text}"),
        );
        assert_eq!(headers["cache-control"], "no-store");
        if status >= 400 {
            assert_eq!(headers["content-type"], "application/problem+json");
        }
        Answer {
            status,
            headers,
            body: match text.as_str() {
                "" => Value::Null,
                text => serde_json::from_str(text).unwrap(),
            },
        }
    }

    /// The key of the visitor whom the header names so.
    pub async fn key_of(&self, header: &str) -> String {
        let body = serde_json::json!({ "header": header }).to_string();
        let answer = self.sessions_with(Method::POST, "/find", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["visitor"].as_str().unwrap().to_owned()
    }
}
