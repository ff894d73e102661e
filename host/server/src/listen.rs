//! Accepts connections, with bounds on how many there are, how long each may take to say what it wants, and how much it may say before that.
//!
//! `axum::serve` has none of the three: a client that sends a header each minute would keep its connection for ever, and one that sends 400 KiB of
//! headers would have them in memory. HTTP/1.1 alone: it is what GitLab and every ingress speak.

mod unread;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use unread::Explained;

/// Connections at a time; further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 1024;
/// How long the head of a request may take, from when it could begin: so long, too, an unused connection is kept.
const SLOWEST_HEAD: Duration = Duration::from_secs(15);
/// Bytes that a connection may have in memory besides a body: the most that a head may have.
const LARGEST_HEAD: usize = 32 * 1024;
/// After a failure to accept, such as too many open files.
const PAUSE: Duration = Duration::from_millis(500);

/// Serves until `stop`, then lets requests that are under way end.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(%error, "no connection could be accepted; trying again");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        connections.spawn(connection(stream, router.clone(), stop.clone(), place));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection until its end or, after `stop`, until the request that is under way is answered.
async fn connection(
    stream: TcpStream,
    router: Router,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    let service = TowerToHyperService::new(router);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SLOWEST_HEAD)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(Explained::new(stream)), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    // A client that goes away, or speaks no HTTP, is no fault of ours.
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Answers are small and wanted at once.
    let _ = stream.set_nodelay(true);
    Ok((stream, place))
}
