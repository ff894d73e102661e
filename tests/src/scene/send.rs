//! Sends what GitLab would send.

use http::HeaderMap;
use penstock_doubles::gitlab::{Change, Delivery, Sent};
use serde_json::Value;

use super::Scene;

/// What came back for a request to a hook.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body as JSON; null if it is none.
    pub body: Value,
}

impl Answer {
    /// The delivery that the answer names.
    ///
    /// # Panics
    /// If it names none.
    #[must_use]
    pub fn delivery(&self) -> String {
        let found = self.body["delivery"].as_str();
        found
            .unwrap_or_else(|| panic!("no delivery in {self:?}"))
            .to_owned()
    }
}

/// Posts requests to hooks.
#[derive(Clone, Debug)]
pub struct Poster {
    pub(super) http: reqwest::Client,
}

impl Poster {
    /// Posts a delivery as it is; `None` if there was no whole answer.
    pub async fn post(&self, delivery: &Delivery) -> Option<Answer> {
        self.post_to(
            &delivery.url,
            delivery.headers.clone(),
            delivery.body.clone(),
        )
        .await
    }

    /// Posts anything anywhere.
    pub async fn post_to(
        &self,
        url: &str,
        headers: HeaderMap,
        body: impl Into<reqwest::Body>,
    ) -> Option<Answer> {
        let sent = self
            .http
            .post(url)
            .headers(headers)
            .body(body)
            .send()
            .await
            .ok()?;
        let status = sent.status().as_u16();
        let text = sent.text().await.ok()?;
        Some(Answer {
            status,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
        })
    }
}

impl Scene {
    /// Lets GitLab send everything that follows from a change; the ids of the deliveries.
    ///
    /// # Panics
    /// If one is not taken.
    pub async fn send(&self, change: &Change) -> Vec<String> {
        let sent = change.send().await;
        assert!(!sent.is_empty(), "GitLab sent nothing: no hook is reached");
        sent.iter().map(|sent| self.taken(sent)).collect()
    }

    /// The same for a change that sends one webhook.
    ///
    /// # Panics
    /// If it sends another number.
    pub async fn send_one(&self, change: &Change) -> String {
        let mut sent = self.send(change).await;
        assert_eq!(sent.len(), 1, "one webhook was expected");
        sent.remove(0)
    }

    /// Posts a delivery as it is.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn post(&self, delivery: &Delivery) -> Answer {
        self.poster.post(delivery).await.expect("an answer")
    }

    /// Posts to `/incoming`; the status and the body.
    ///
    /// # Panics
    /// If there is no answer in JSON.
    pub async fn incoming(&self, body: &Value) -> (u16, Value) {
        let url = format!("{}/incoming", self.url());
        let sent = self.poster.http.post(url).json(body).send().await;
        let answer = sent.expect("an answer");
        let status = answer.status().as_u16();
        (status, answer.json().await.expect("a body in JSON"))
    }

    /// What posts, to be moved into a task.
    #[must_use]
    pub fn poster(&self) -> Poster {
        self.poster.clone()
    }

    fn taken(&self, sent: &Sent) -> String {
        let well = sent
            .status
            .is_some_and(|status| (200..300).contains(&status));
        assert!(
            well,
            "a delivery was not taken: {sent:?}\nthe log ends with:\n{}",
            self.penstock.log_tail()
        );
        let body: Value = serde_json::from_str(&sent.body).expect("a body in JSON");
        body["delivery"]
            .as_str()
            .expect("the delivery's id")
            .to_owned()
    }
}
