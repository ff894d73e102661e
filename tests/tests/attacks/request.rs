//! Requests as bytes, so that they can be as wrong as one likes.

use std::time::Duration;

use penstock_doubles::gitlab::{Delivery, sign};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than any answer may take: a slow body has 8 s, a full budget 5 s, a head 15 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// A request to a hook.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// What GitLab would send.
    pub(crate) fn of(delivery: &Delivery) -> Self {
        let target = delivery.url.splitn(4, '/').nth(3).unwrap();
        let headers = delivery.headers.iter();
        Self {
            method: "POST",
            target: format!("/{target}"),
            headers: headers
                .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                .filter(|(name, _)| name != "content-length" && name != "host")
                .collect(),
            body: delivery.body.to_vec(),
        }
    }

    pub(crate) fn to(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    pub(crate) fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(it, _)| it != name);
        self
    }

    pub(crate) fn add(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn set(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.without(name).add(name, value)
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    pub(crate) fn header(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(it, _)| it == name);
        String::from_utf8_lossy(&found.unwrap().1).into_owned()
    }

    /// Signs what is there now, as GitLab would with this key.
    pub(crate) fn signed(self, key: &str) -> Self {
        let signature = self.signature(key);
        self.set("webhook-signature", signature)
    }

    pub(crate) fn signature(&self, key: &str) -> String {
        let (id, time) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        sign(key, &id, &time, &self.body)
    }

    /// Head and body, with a length and an end of the connection unless the headers say otherwise.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let says = |name: &str| {
            self.headers
                .iter()
                .any(|(it, _)| it.eq_ignore_ascii_case(name))
        };
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        let mut line = |name: &str, value: &[u8]| {
            bytes.extend(name.as_bytes());
            bytes.extend(b": ");
            bytes.extend(value);
            bytes.extend(b"\r\n");
        };
        if !says("host") {
            line("host", b"penstock");
        }
        if !says("connection") {
            line("connection", b"close");
        }
        for (name, value) in &self.headers {
            line(name, value);
        }
        if !says("content-length") && !says("transfer-encoding") {
            line("content-length", self.body.len().to_string().as_bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
        bytes
    }
}

/// What came back.
pub(crate) struct Exchanged {
    /// The status of the first answer; 0 if the connection ended, or stood still, without one.
    pub(crate) status: u16,
    /// How many answers came.
    pub(crate) answers: usize,
    text: String,
}

impl Exchanged {
    /// An error that came has its id in the head and, where it has one, in the body.
    pub(crate) fn has_id(&self) -> bool {
        if self.status < 400 {
            return true;
        }
        let Some((head, body)) = self.text.split_once("\r\n\r\n") else {
            return false;
        };
        let id = head
            .lines()
            .find_map(|line| line.strip_prefix("x-request-id: "));
        id.is_some_and(|id| id.len() == 36 && (body.is_empty() || body.contains(id)))
    }
}

/// Sends bytes.
pub(crate) async fn exchange(address: &str, bytes: &[u8]) -> Exchanged {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let mut answer = Vec::new();
    let write = async {
        // It may be closed under our hands: the answer says why.
        let _ = writing.write_all(bytes).await;
        std::future::pending::<()>().await;
    };
    let read = async {
        let mut part = [0; 4096];
        while let Ok(count @ 1..) = reading.read(&mut part).await {
            answer.extend_from_slice(&part[..count]);
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
        () = tokio::time::sleep(PATIENCE) => {}
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
    Exchanged {
        status: status.and_then(|digits| digits.parse().ok()).unwrap_or(0),
        answers: text.matches("HTTP/1.").count(),
        text,
    }
}
