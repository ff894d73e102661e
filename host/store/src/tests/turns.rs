//! Tenants have turns before the thread that writes.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use super::bed::{Bed, TTL};
use crate::error::StoreError;
use crate::{Claim, Queue};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_for_a_tenant_waits_for_one_piece_of_another_s() {
    let bed = Bed::sqlite().await;
    let lane_of = |tenant: Option<&str>| Claim {
        queue: Queue::Act,
        lane: "a lane".to_owned(),
        tenant: tenant.map(Into::into),
        owner: "one".to_owned(),
        epoch: 1,
        until: bed.now().plus(TTL),
    };
    let (crowd, quiet, nobody) = (
        lane_of(Some("crowd")),
        lane_of(Some("quiet")),
        lane_of(None),
    );

    // Until it is let go, the writer is at work on this and everything else waits.
    let (begun, writes) = channel();
    let (let_go, held) = channel::<()>();
    let held = Mutex::new(held);
    let store = bed.store.clone();
    let first = tokio::spawn(async move {
        let wait = move |_: &mut dyn crate::backend::Tx| {
            begun.send(()).unwrap();
            held.lock().unwrap().recv().unwrap();
            Ok::<_, StoreError>(())
        };
        store.write(wait).await
    });
    tokio::task::spawn_blocking(move || writes.recv().unwrap())
        .await
        .unwrap();

    let order = Arc::<Mutex<Vec<&str>>>::default();
    let mut pieces = Vec::new();
    for (claim, name) in [
        (&crowd, "crowd 1"),
        (&crowd, "crowd 2"),
        (&crowd, "crowd 3"),
        (&quiet, "quiet 1"),
        (&quiet, "quiet 2"),
        (&nobody, "nobody's"),
    ] {
        let order = Arc::clone(&order);
        let mut piece = Box::pin(bed.store.write_for(claim, move |_| {
            order.lock().unwrap().push(name);
            Ok::<_, StoreError>(())
        }));
        // It is handed in, and waits.
        let mut context = Context::from_waker(Waker::noop());
        assert!(piece.as_mut().poll(&mut context).is_pending());
        pieces.push(piece);
    }
    let_go.send(()).unwrap();
    first.await.unwrap().unwrap();
    for piece in pieces {
        piece.await.unwrap();
    }
    assert_eq!(
        *order.lock().unwrap(),
        [
            "crowd 1", "quiet 1", "nobody's", "crowd 2", "quiet 2", "crowd 3"
        ]
    );
}
