//! Answers to what no request could be read from: hyper makes them itself, with nothing in them. Here they get what every other error has.
//!
//! Hyper asks nobody and has no hook for it, so it is done where the answer leaves: on the connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::request_id;

/// A connection that says more than hyper does.
pub(super) struct Explained<S> {
    stream: S,
    /// What goes out in place of an answer of hyper's.
    instead: Option<Instead>,
}

struct Instead {
    bytes: Vec<u8>,
    sent: usize,
    /// Bytes of hyper's answer.
    of: usize,
}

impl<S> Explained<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            instead: None,
        }
    }
}

/// The status of an answer that hyper made itself: a whole head of an error, without a body, and without the id that everything of ours has.
fn of_hyper(bytes: &[u8]) -> Option<StatusCode> {
    let head = bytes
        .strip_prefix(b"HTTP/1.1 4")?
        .strip_suffix(b"\r\n\r\n")?;
    let status = StatusCode::from_bytes(bytes.get(9..12)?).ok()?;
    let head = std::str::from_utf8(head).ok()?;
    let mut names = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name);
    let others = names.any(|name| !["content-length", "connection", "date"].contains(&name.trim()));
    (!others).then_some(status)
}

/// What is wrong, and what to do.
fn why(status: StatusCode) -> String {
    match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            let most = super::LARGEST_HEAD / 1024;
            format!(
                "the request's head is larger than {most} KiB, has more than 100 headers, or announces a body beyond all measure: send less"
            )
        }
        StatusCode::URI_TOO_LONG => {
            "the request's address is too long: send a shorter one".to_owned()
        }
        _ => {
            "no request can be read from this: its first line or one of its headers is malformed. Speak HTTP 1.1 here, without TLS, as every ingress does".to_owned()
        }
    }
}

impl Instead {
    fn of(answer: &[u8]) -> Option<Self> {
        let status = of_hyper(answer)?;
        let (id, body) = request_id::unread(status, &why(status));
        let bytes = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{}: {id}\r\n\r\n{body}",
            body.len(),
            request_id::HEADER
        );
        Some(Self {
            bytes: bytes.into_bytes(),
            sent: 0,
            of: answer.len(),
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Explained<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Explained<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, instead } = &mut *self;
        if instead.is_none() {
            *instead = Instead::of(bytes);
        }
        let Some(answer) = instead else {
            return Pin::new(stream).poll_write(context, bytes);
        };
        while let Some(rest) = answer.bytes.get(answer.sent..).filter(|it| !it.is_empty()) {
            let sent = ready!(Pin::new(&mut *stream).poll_write(context, rest))?;
            if sent == 0 {
                return Poll::Ready(Ok(0));
            }
            answer.sent += sent;
        }
        // As if hyper's own had been sent. It comes with the same bytes again until then.
        let of = answer.of;
        *instead = None;
        Poll::Ready(Ok(of))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // An answer of hyper's own is one piece.
        match slices {
            [only] => self.poll_write(context, only),
            _ => Pin::new(&mut self.stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const TOO_LARGE: &str = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: Thu, 26 Nov 2026 05:00:00 GMT\r\n\r\n";

    #[test]
    fn what_is_hypers_own_is_known_by_what_it_lacks() {
        assert_eq!(
            of_hyper(TOO_LARGE.as_bytes()),
            Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        );
        for other in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nx-request-id: 7\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 4",
            "HTTP/1.1 4\r\n\r\n",
            "",
        ] {
            assert_eq!(of_hyper(other.as_bytes()), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_takes_a_few_bytes_at_a_time_gets_all_of_it() {
        let (ours, mut theirs) = tokio::io::duplex(7);
        let sender = tokio::spawn(async move {
            let mut connection = Explained::new(ours);
            connection.write_all(TOO_LARGE.as_bytes()).await.unwrap();
            connection.write_all(b"more").await.unwrap();
        });
        let mut got = String::new();
        theirs.read_to_string(&mut got).await.unwrap();
        sender.await.unwrap();
        let (head, body) = got.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
        let body = body.strip_suffix("more").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())));
        let said: serde_json::Value = serde_json::from_str(body).unwrap();
        let id = said["request"].as_str().unwrap();
        assert!(head.contains(&format!("x-request-id: {id}")));
        assert!(said["error"].as_str().unwrap().contains("32 KiB"));
    }
}
