//! Two replicas on one Postgres, of which one or the other is killed in the middle of a burst.

use std::time::Duration;

use crate::burst::{Ledger, moment, pushes, send_within};
use crate::progress::Progress;
use crate::{Penstock, Scene};

/// Pushes in a round whose plugin traps.
const TRAPS: usize = 2;

/// Kills one and then the other so many times, in bursts that go to both; what was sent and answered. The scene is one
/// [`with_traps`](crate::burst::with_traps).
///
/// # Panics
/// If a good delivery is refused, or a replica does not come back.
pub async fn kills(
    scene: &mut Scene,
    second: &mut Penstock,
    second_url: &str,
    rounds: u32,
    in_a_round: usize,
) -> Ledger {
    let first_url = scene.url().to_owned();
    let mut ledger = Ledger::default();
    let mut progress = Progress::begin("kills, two replicas on Postgres", u64::from(rounds));
    for round in 0..rounds {
        ledger.surely_in(scene, round).await;
        let at = moment(Duration::from_millis(30), Duration::from_millis(400));
        let mut load = pushes(scene, in_a_round);
        load.extend(ledger.trapping(scene, TRAPS));
        load.extend(ledger.again(5));
        for delivery in load.iter_mut().skip(in_a_round / 2) {
            delivery.url = delivery.url.replace(&first_url, second_url);
        }
        let sending = tokio::spawn(send_within(scene.poster(), load, 2 * at));
        // The moment is drawn, so that over the rounds it meets every step.
        tokio::time::sleep(at).await;
        let victim = if round % 2 == 0 {
            &mut scene.penstock
        } else {
            &mut *second
        };
        victim.kill9();
        for (mut delivery, answer) in sending.await.expect("a sender that ends") {
            delivery.url = delivery.url.replace(second_url, &first_url);
            ledger.note(delivery, answer);
        }
        victim.restart().await;
        progress.done(u64::from(round) + 1);
    }
    ledger
}
