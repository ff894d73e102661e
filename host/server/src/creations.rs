//! How many runs of one tenant are created at once, for each cluster.
//!
//! An API server does what it is sent side by side and knows nothing of tenants: who sends it fifty creations makes everybody who comes after wait for
//! all fifty. A tenant that is alone may do that. While others create runs as well, each has a few under way, and its others wait here.
//!
//! A creation that hangs goes on and gives up its place, so that no others wait for it for long.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use penstock_model::id::{ClusterName, TenantName};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Creations of one tenant at once while others create runs as well. An API server with one core takes 60 ms for so many; one that is 100 ms away
/// still gets 80 a second of each tenant.
const AMONG_OTHERS: usize = 8;
/// A tenant counts as creating runs for so long after its last one.
const LATELY: Duration = Duration::from_secs(10);
/// How long a creation has a place at most. Longer than any takes at a busy API server.
const LASTS: Duration = Duration::from_secs(5);

/// Whose a creation is.
type Whose = Option<TenantName>;

/// All clusters of a process.
#[derive(Debug, Default)]
pub struct Creations {
    clusters: Mutex<HashMap<ClusterName, Line>>,
}

impl Creations {
    /// Creates when its turn has come.
    pub async fn turn<T>(
        &self,
        cluster: &ClusterName,
        whose: &Whose,
        create: impl Future<Output = T>,
    ) -> T {
        let line = {
            let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
            clusters.entry(cluster.clone()).or_default().clone()
        };
        line.turn(whose, create).await
    }
}

/// The line before one cluster.
#[derive(Clone, Debug, Default)]
struct Line {
    /// Those alone that create runs, wait, or did so lately.
    tenants: Arc<Mutex<HashMap<Whose, Tenant>>>,
}

#[derive(Debug)]
struct Tenant {
    under_way: usize,
    waiting: VecDeque<oneshot::Sender<Place>>,
    last: Instant,
}

/// The right to create; given back when dropped.
#[derive(Debug)]
struct Place {
    line: Line,
    whose: Whose,
}

impl Line {
    async fn turn<T>(&self, whose: &Whose, create: impl Future<Output = T>) -> T {
        // Who is in line is given a place sooner or later; without an answer it goes on all the same.
        let place = self.ask(whose).await.ok();
        let mut create = pin!(create);
        if let Ok(created) = tokio::time::timeout(LASTS, &mut create).await {
            return created;
        }
        drop(place);
        create.await
    }

    fn ask(&self, whose: &Whose) -> oneshot::Receiver<Place> {
        let (sender, place) = oneshot::channel();
        let now = Instant::now();
        let mut tenants = self.tenants();
        let tenant = tenants.entry(whose.clone()).or_insert(Tenant {
            under_way: 0,
            waiting: VecDeque::new(),
            last: now,
        });
        tenant.last = now;
        tenant.waiting.push_back(sender);
        drop(tenants);
        self.give(whose);
        place
    }

    /// Gives out the places that this tenant may have.
    fn give(&self, whose: &Whose) {
        while let Some(sender) = self.next(whose) {
            let place = Place {
                line: self.clone(),
                whose: whose.clone(),
            };
            // Who does not wait any more leaves it to the next: it comes back by being dropped.
            let _ = sender.send(place);
        }
    }

    /// Who is next of this tenant, if it may have one more under way.
    fn next(&self, whose: &Whose) -> Option<oneshot::Sender<Place>> {
        let now = Instant::now();
        let mut tenants = self.tenants();
        tenants.retain(|_, it| it.is_active(now));
        let alone = tenants.len() <= 1;
        let tenant = tenants.get_mut(whose)?;
        if !alone && tenant.under_way >= AMONG_OTHERS {
            return None;
        }
        let sender = tenant.waiting.pop_front()?;
        tenant.under_way += 1;
        Some(sender)
    }

    fn tenants(&self) -> MutexGuard<'_, HashMap<Whose, Tenant>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenant {
    fn is_active(&self, now: Instant) -> bool {
        self.under_way > 0 || !self.waiting.is_empty() || now.duration_since(self.last) < LATELY
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(tenant) = self.line.tenants().get_mut(&self.whose) {
            tenant.under_way = tenant.under_way.saturating_sub(1);
        }
        self.line.give(&self.whose);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::task::JoinHandle;

    use super::*;

    fn whose(name: &str) -> Whose {
        Some(name.into())
    }

    /// What is under way, in order, and what ends each.
    #[derive(Clone, Default)]
    struct Begun(Arc<Mutex<Vec<UnderWay>>>);

    type UnderWay = (String, oneshot::Sender<()>);

    impl Begun {
        fn count(&self, name: &str) -> usize {
            let begun = self.0.lock().unwrap();
            begun.iter().filter(|(of, _)| of == name).count()
        }

        /// Lets the oldest creation of a tenant end, and everything that follows from it come about.
        async fn end(&self, name: &str) {
            let end = {
                let mut begun = self.0.lock().unwrap();
                let at = begun.iter().position(|(of, _)| of == name).unwrap();
                begun.remove(at).1
            };
            end.send(()).unwrap();
            settle().await;
        }
    }

    async fn settle() {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }

    async fn create(line: &Line, begun: &Begun, name: &str, count: usize) -> Vec<JoinHandle<()>> {
        let tasks = (0..count).map(|_| {
            let (line, begun, name) = (line.clone(), begun.clone(), name.to_owned());
            tokio::spawn(async move {
                let work = async {
                    let (sender, ended) = oneshot::channel();
                    begun.0.lock().unwrap().push((name.clone(), sender));
                    let _ = ended.await;
                };
                line.turn(&whose(&name), work).await;
            })
        });
        let tasks = tasks.collect();
        settle().await;
        tasks
    }

    #[tokio::test(start_paused = true)]
    async fn alone_a_tenant_creates_as_many_at_once_as_it_likes() {
        let (line, begun) = (Line::default(), Begun::default());
        create(&line, &begun, "a", 50).await;
        assert_eq!(begun.count("a"), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn beside_others_each_has_a_few_under_way_and_waits_for_none_of_theirs() {
        let (line, begun) = (Line::default(), Begun::default());
        create(&line, &begun, "a", 20).await;
        create(&line, &begun, "b", 20).await;
        assert_eq!(begun.count("b"), AMONG_OTHERS);
        create(&line, &begun, "c", 1).await;
        assert_eq!(begun.count("c"), 1);
        create(&line, &begun, "a", 20).await;
        assert_eq!(begun.count("a"), 20);
        // What it had before it was beside others goes on, and nothing new begins until it is down to a few.
        for _ in 0..12 {
            begun.end("a").await;
        }
        assert_eq!(begun.count("a"), AMONG_OTHERS);
        begun.end("a").await;
        assert_eq!(begun.count("a"), AMONG_OTHERS);
        begun.end("b").await;
        assert_eq!(begun.count("b"), AMONG_OTHERS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_while_after_the_others_are_done_it_is_alone_again() {
        let (line, begun) = (Line::default(), Begun::default());
        create(&line, &begun, "b", 1).await;
        create(&line, &begun, "a", 60).await;
        begun.end("b").await;
        // In steps in which none of them counts as hanging.
        for seconds in [4, 8] {
            tokio::time::advance(Duration::from_secs(4)).await;
            for _ in 0..AMONG_OTHERS {
                begun.end("a").await;
            }
            assert_eq!(begun.count("a"), AMONG_OTHERS, "after {seconds} s");
        }
        tokio::time::advance(Duration::from_secs(4)).await;
        begun.end("a").await;
        assert_eq!(begun.count("a"), 60 - 2 * AMONG_OTHERS - 1);
    }

    #[tokio::test(start_paused = true)]
    async fn creations_that_hang_hold_up_nobody_for_long() {
        let (line, begun) = (Line::default(), Begun::default());
        create(&line, &begun, "b", 1).await;
        let hanging: Vec<_> = (0..2 * AMONG_OTHERS)
            .map(|_| {
                let line = line.clone();
                tokio::spawn(async move { line.turn(&whose("a"), pending::<()>()).await })
            })
            .collect();
        settle().await;
        let whose = whose("a");
        let quick = line.turn(&whose, async { 7 });
        assert_eq!(tokio::time::timeout(3 * LASTS, quick).await, Ok(7));
        for task in hanging {
            assert!(!task.is_finished());
            task.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_or_is_cut_off_leaves_nothing_behind() {
        let (line, begun) = (Line::default(), Begun::default());
        let mut tasks = create(&line, &begun, "b", 1).await;
        tasks.extend(create(&line, &begun, "a", 2 * AMONG_OTHERS).await);
        for task in tasks.into_iter().rev() {
            task.abort();
            settle().await;
        }
        tokio::time::advance(LATELY).await;
        create(&line, &begun, "c", 1).await;
        let tenants = line.tenants();
        assert_eq!(tenants.keys().collect::<Vec<_>>(), [&whose("c")]);
    }

    #[tokio::test(start_paused = true)]
    async fn clusters_don_t_wait_for_each_other() {
        let creations = Arc::new(Creations::default());
        let (one, other): (ClusterName, ClusterName) = ("one".into(), "other".into());
        let hanging: Vec<_> = ["a", "b"]
            .into_iter()
            .flat_map(|name| std::iter::repeat_n(name, 2 * AMONG_OTHERS))
            .map(|name| {
                let (creations, one) = (Arc::clone(&creations), one.clone());
                tokio::spawn(
                    async move { creations.turn(&one, &whose(name), pending::<()>()).await },
                )
            })
            .collect();
        settle().await;
        let whose = whose("a");
        let quick = creations.turn(&other, &whose, async { 7 });
        assert_eq!(tokio::time::timeout(LASTS / 2, quick).await, Ok(7));
        for task in hanging {
            task.abort();
        }
    }
}
