//! Interleavings of pushes, closes, cancels, retries, resends, crashes and lost answers over the real store with two workers.
//!
//! GitLab and the cluster are a few lines of truth beside it; what decides, claims, withdraws and remembers is the store itself.
//! After every step no run may have been created twice. At rest every delivery has its effects once, in the order of the lane,
//! and nothing that the head supersedes, or that was closed or cancelled later, is left running.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use penstock_model::admit::{Order, Task};
use penstock_model::effect::CancelScope;
use penstock_model::flow::{FlowLimits, Limit};
use penstock_model::id::{CommitId, Digest, EffectId, Timestamp};
use penstock_model::run::RunState;
use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use tokio::runtime::Runtime;

use super::bed::{Bed, MANY, TTL};
use super::world::{cancel, delivery, ordering, start};
use crate::{
    Appended, Claim, CommitError, CreatedRun, Decision, DeliveryOutcome, Effect, Pending, Queue,
    RunObservation, Settlement, Store,
};

/// What happens. Numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    Push,
    Close,
    Reopen,
    Cancel,
    /// GitLab sends a delivery again.
    Resend(usize),
    /// A push that was never taken in comes hours late.
    Late(usize),
    /// Somebody tries a failed delivery again.
    Retry(usize),
    Decide(usize),
    /// The plugin fails.
    Fail(usize),
    /// GitLab is away.
    Postpone(usize),
    Take(usize),
    /// The API server creates or stops what the worker has in hand.
    Carry(usize),
    Answer(usize),
    /// No answer came: tried again.
    Lose(usize),
    Crash(usize),
    /// Time passes, past every claim: a worker that stood still has lost its own.
    Stall,
    /// The watch tells of an object.
    Watch(usize),
    /// A run ends by itself.
    End(usize),
    /// Somebody prunes what has ended.
    Prune(usize),
    GiveRoom,
    Restart,
}

/// Steps are drawn; what they come to is the store's.
struct Steps;

impl ReferenceStateMachine for Steps {
    type State = u32;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<u32> {
        Just(0).boxed()
    }

    fn transitions(_pushes: &u32) -> BoxedStrategy<Step> {
        let which = || 0..8_usize;
        let worker = || 0..2_usize;
        prop_oneof![
            6 => Just(Step::Push),
            1 => Just(Step::Close),
            1 => Just(Step::Reopen),
            1 => Just(Step::Cancel),
            1 => which().prop_map(Step::Resend),
            1 => which().prop_map(Step::Late),
            1 => which().prop_map(Step::Retry),
            10 => worker().prop_map(Step::Decide),
            1 => worker().prop_map(Step::Fail),
            1 => worker().prop_map(Step::Postpone),
            8 => worker().prop_map(Step::Take),
            8 => worker().prop_map(Step::Carry),
            6 => worker().prop_map(Step::Answer),
            1 => worker().prop_map(Step::Lose),
            2 => worker().prop_map(Step::Crash),
            2 => Just(Step::Stall),
            3 => which().prop_map(Step::Watch),
            2 => which().prop_map(Step::End),
            1 => which().prop_map(Step::Prune),
            2 => Just(Step::GiveRoom),
            1 => Just(Step::Restart),
        ]
        .boxed()
    }

    fn apply(pushes: u32, step: &Step) -> u32 {
        pushes + u32::from(matches!(step, Step::Push))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Push(u32),
    Close,
    Cancel,
}

#[derive(Clone, Debug)]
struct Event {
    id: String,
    kind: Kind,
    seq: u64,
    /// Decided, with what it cancels: the latest attempt.
    decided: bool,
    /// It was found to be past when it was decided.
    past: bool,
    /// It was put off once: others may have gone before it.
    put_off: bool,
}

/// A PipelineRun.
#[derive(Clone, Debug)]
struct Object {
    uid: String,
    there: bool,
    stopped: bool,
    ended: bool,
}

#[derive(Default)]
struct Worker {
    deciding: Option<Claim>,
    acting: Option<(Claim, Option<Effect>)>,
}

struct World {
    runtime: Runtime,
    bed: Bed,
    workers: [Worker; 2],
    events: Vec<Event>,
    head: u32,
    closed: bool,
    objects: BTreeMap<EffectId, Object>,
    /// Creations in their order.
    created: Vec<EffectId>,
    /// Creations that the store was told of.
    answered: BTreeSet<EffectId>,
    starts: BTreeMap<EffectId, (usize, u32)>,
}

fn commit(n: u32) -> CommitId {
    CommitId::parse(&format!("{n:040x}")).unwrap()
}

fn limits() -> FlowLimits {
    FlowLimits {
        pipeline: Limit {
            in_flight: Some(2),
            per_second: None,
        },
        ..FlowLimits::lifted()
    }
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let bed = runtime.block_on(Bed::sqlite());
        bed.store.limit_flow(limits());
        Self {
            runtime,
            bed,
            workers: Default::default(),
            events: Vec::new(),
            head: 0,
            closed: false,
            objects: BTreeMap::new(),
            created: Vec::new(),
            answered: BTreeSet::new(),
            starts: BTreeMap::new(),
        }
    }

    fn now(&self) -> Timestamp {
        self.bed.now()
    }

    fn store(&self) -> Store {
        self.bed.store.clone()
    }

    fn append(&mut self, kind: Kind) {
        let id = format!("d{}", self.events.len());
        let new = delivery(&id, self.now());
        let seq = match self.runtime.block_on(self.bed.store.append(new)).unwrap() {
            Appended::New { seq } => seq,
            other => panic!("{other:?}"),
        };
        self.events.push(Event {
            id,
            kind,
            seq,
            decided: false,
            past: false,
            put_off: false,
        });
    }

    fn resend(&mut self, n: usize) {
        let Some(event) = pick(&self.events, n) else {
            return;
        };
        let again = delivery(&event.id, self.now());
        let taken = self.runtime.block_on(self.bed.store.append(again)).unwrap();
        assert!(
            !matches!(taken, Appended::New { .. }),
            "a resend was taken for news"
        );
    }

    /// An older push that never arrived: by now GitLab has another head.
    fn late(&mut self, n: usize) {
        if self.head > 1 {
            let n = u32::try_from(n).unwrap() % (self.head - 1) + 1;
            self.append(Kind::Push(n));
        }
    }

    fn claimed(&mut self, worker: usize, queue: Queue) -> Option<Claim> {
        let name = format!("w{worker}");
        let now = self.now();
        let claims = self
            .runtime
            .block_on(self.bed.store.claim(queue, &name, TTL, MANY, 1, now))
            .unwrap();
        claims.into_iter().next()
    }

    /// What the worker has to decide; its lane is claimed and the delivery routed if need be.
    fn pending(&mut self, worker: usize) -> Option<(Claim, Pending)> {
        if self.workers[worker].deciding.is_none() {
            self.workers[worker].deciding = self.claimed(worker, Queue::Dispatch);
        }
        let claim = self.workers[worker].deciding.clone()?;
        let now = self.now();
        let store = self.store();
        loop {
            let head = self.runtime.block_on(store.head(&claim, now)).unwrap();
            let Some(pending) = head else {
                // Nothing to do, or no longer ours: either way it is given up.
                let _ = self.runtime.block_on(store.release(claim, None, now));
                self.workers[worker].deciding = None;
                return None;
            };
            if pending.routed {
                return Some((claim, pending));
            }
            let key = pending.delivery.key.clone();
            let routed = store.route(&claim, &key, vec!["r".into()], now);
            if self.runtime.block_on(routed).is_err() {
                self.workers[worker].deciding = None;
                return None;
            }
        }
    }

    /// What the plugin and `admit` make of an event, by what GitLab says now.
    fn plan(&self, n: usize, attempt: u32) -> (Vec<Order>, bool) {
        let event = &self.events[n];
        let id = |order: &Order| {
            EffectId::new(
                &"main".into(),
                &event.id.as_str().into(),
                &"r".into(),
                attempt,
                &order.key,
            )
        };
        let cancel_of = |scope, past| {
            let mut order = cancel(&event.id, scope, "main", None);
            order.id = id(&order);
            if let Task::CancelRuns(cancel) = &mut order.task {
                cancel.head = (self.head > 0).then(|| commit(self.head));
                cancel.past = past;
            }
            order
        };
        match event.kind {
            Kind::Push(n) => {
                let past = n != self.head;
                let mut order = start(&event.id, "run", 'a', "main");
                order.id = id(&order);
                if let Task::StartRun(run) = &mut order.task {
                    run.commit = commit(n);
                    run.name = order.id.object_name("build");
                }
                (vec![cancel_of(CancelScope::Superseded, past), order], past)
            }
            Kind::Close => {
                let past = !self.closed;
                (vec![cancel_of(CancelScope::Earlier, past)], past)
            }
            Kind::Cancel => (vec![cancel_of(CancelScope::Earlier, false)], false),
        }
    }

    fn decide(&mut self, worker: usize, settlement: Settlement) {
        let Some((claim, pending)) = self.pending(worker) else {
            return;
        };
        let id = pending.delivery.key.id.as_str().to_owned();
        let n = self.events.iter().position(|it| it.id == id).unwrap();
        let attempt = pending.routes[0].attempt;
        let (orders, past) = match settlement {
            Settlement::Decided => self.plan(n, attempt),
            Settlement::Failed => (Vec::new(), false),
        };
        let starts: Vec<EffectId> = orders
            .iter()
            .filter(|order| matches!(order.task, Task::StartRun(_)))
            .map(|order| order.id)
            .collect();
        let decision = Decision {
            attempt,
            settlement,
            ..ordering(&id, "r", orders)
        };
        let now = self.now();
        let store = self.store();
        match self.runtime.block_on(store.commit(&claim, decision, now)) {
            Ok(_) => {
                for start in starts {
                    let before = self.starts.insert(start, (n, attempt));
                    assert_eq!(before, None, "an attempt was decided twice");
                }
                if settlement == Settlement::Decided {
                    self.events[n].decided = true;
                    self.events[n].past = past;
                }
            }
            Err(CommitError::Fenced { .. }) => self.workers[worker].deciding = None,
            Err(error) => panic!("{error}"),
        }
    }

    fn postpone(&mut self, worker: usize) {
        let Some((claim, pending)) = self.pending(worker) else {
            return;
        };
        let (now, store) = (self.now(), self.store());
        let later = now.plus(Duration::from_secs(10));
        let (key, route) = (&pending.delivery.key, &pending.routes[0].route);
        let put = store.postpone(&claim, key, Some(route), later, "away", now);
        if self.runtime.block_on(put).is_ok() {
            let id = pending.delivery.key.id.as_str();
            let event = self.events.iter_mut().find(|it| it.id == id);
            event.unwrap().put_off = true;
        }
        let _ = self.runtime.block_on(store.release(claim, None, now));
        self.workers[worker].deciding = None;
    }

    fn retry(&mut self, n: usize) {
        let Some(event) = pick(&self.events, n) else {
            return;
        };
        let id = event.id.as_str().into();
        let retried = self.bed.store.retry_delivery(None, &id, self.now());
        // Only what failed can be; that is the store's to say.
        let _ = self.runtime.block_on(retried);
    }

    /// Takes an effect in hand. Says whether there was a lane for it.
    fn take(&mut self, worker: usize) -> bool {
        if self.workers[worker].acting.is_none() {
            self.workers[worker].acting = self.claimed(worker, Queue::Act).map(|it| (it, None));
        }
        let Some((claim, None)) = &self.workers[worker].acting else {
            return self.workers[worker].acting.is_some();
        };
        let (claim, now, store) = (claim.clone(), self.now(), self.store());
        match self
            .runtime
            .block_on(store.next_effect(&claim, now))
            .unwrap()
        {
            Some(effect) => {
                let id = effect.order.id;
                assert!(
                    !matches!(effect.order.task, Task::StartRun(_)) || !self.answered.contains(&id),
                    "a run is to be created that the store knows is there"
                );
                self.workers[worker].acting = Some((claim, Some(effect)));
            }
            None => {
                let _ = self.runtime.block_on(store.release(claim, None, now));
                self.workers[worker].acting = None;
            }
        }
        true
    }

    /// The API server does what the worker has in hand. Nothing fences a call that is under way: it may arrive when the claim is
    /// another's, though not after its object came, ended, was seen and was pruned, for no call lasts so long.
    fn carry(&mut self, worker: usize) {
        let now = self.now();
        let Some((claim, Some(effect))) = &self.workers[worker].acting else {
            return;
        };
        let pruned = self
            .objects
            .get(&effect.order.id)
            .is_some_and(|object| !object.there);
        if pruned && claim.until <= now {
            self.workers[worker].acting = None;
            return;
        }
        match &effect.order.task {
            Task::StartRun(_) => {
                let id = effect.order.id;
                let object = self.objects.entry(id).or_insert_with(|| {
                    self.created.push(id);
                    Object {
                        uid: format!("uid-{id}"),
                        there: true,
                        stopped: false,
                        ended: false,
                    }
                });
                assert!(object.there, "a run that was pruned is made again");
            }
            Task::StopRun(stop) => {
                if let Some(object) = self.objects.get_mut(&stop.run) {
                    object.stopped = true;
                }
            }
            _ => {}
        }
    }

    fn answer(&mut self, worker: usize) {
        self.carry(worker);
        let Some((claim, Some(effect))) = self.workers[worker].acting.take() else {
            return;
        };
        let (now, store, id) = (self.now(), self.store(), effect.order.id);
        let told = match &effect.order.task {
            Task::StartRun(_) => {
                let made = CreatedRun {
                    id,
                    uid: self.objects[&id].uid.clone(),
                    stored_digest: Digest::of(b"spec"),
                    web_url: None,
                    follow_ups: vec![],
                };
                let told = store.run_created(&claim, made, now);
                let told = self.runtime.block_on(told).map(drop);
                if told.is_ok() {
                    self.answered.insert(id);
                }
                told
            }
            _ => {
                let told = store.effect_done(&claim, &id, serde_json::Value::Null, now);
                self.runtime.block_on(told)
            }
        };
        match told {
            Ok(()) | Err(crate::ActError::NotWaiting { .. }) => {
                self.workers[worker].acting = Some((claim, None));
            }
            Err(crate::ActError::Fenced { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn lose(&mut self, worker: usize) {
        let Some((claim, Some(effect))) = self.workers[worker].acting.take() else {
            return;
        };
        let (now, store) = (self.now(), self.store());
        let later = now.plus(Duration::from_secs(5));
        let again = store.effect_retry(&claim, &effect.order.id, later, "no answer", now);
        if self.runtime.block_on(again).is_ok() {
            let _ = self.runtime.block_on(store.release(claim, None, now));
        }
    }

    fn watch(&mut self, n: usize) {
        let ids: Vec<EffectId> = self.objects.keys().copied().collect();
        if let Some(id) = pick(&ids, n) {
            self.tell(*id);
        }
    }

    /// The watch tells where an object stands.
    fn tell(&self, id: EffectId) {
        let object = &self.objects[&id];
        let state = match (object.there, object.ended, object.stopped) {
            (false, ..) => return,
            (_, true, _) => RunState::Succeeded,
            (_, _, true) => RunState::Canceled,
            _ => RunState::Running,
        };
        let seen = RunObservation {
            id,
            cluster: "prod".into(),
            uid: object.uid.clone(),
            state,
            reason: state.as_str().to_owned(),
            web_url: None,
            started_at: None,
            finished_at: None,
            results: vec![],
            failed_task: None,
            follow_ups: vec![],
        };
        self.runtime
            .block_on(self.bed.store.run_observed(seen, self.now()))
            .unwrap();
    }

    fn end(&mut self, n: usize) {
        let ids: Vec<EffectId> = self.objects.keys().copied().collect();
        if let Some(id) = pick(&ids, n).copied()
            && let Some(object) = self.objects.get_mut(&id)
            && !object.stopped
        {
            object.ended = true;
        }
    }

    /// Takes an object away whose end was seen.
    fn prune(&mut self, n: usize) {
        let ids: Vec<EffectId> = self.objects.keys().copied().collect();
        let Some(id) = pick(&ids, n).copied() else {
            return;
        };
        let run = self.runtime.block_on(self.bed.store.run(&id)).unwrap();
        if let Some(object) = self.objects.get_mut(&id)
            && (object.ended || object.stopped)
            && run.is_some_and(|run| run.run.state.is_final() && run.uid.is_some())
        {
            object.there = false;
        }
    }

    fn restart(&mut self) {
        self.workers = Default::default();
        let target = self.bed.target.clone();
        let old = self.bed.store.clone();
        self.bed.store = self.runtime.block_on(async {
            old.close().await;
            Store::open(target).await.unwrap()
        });
        self.bed.store.limit_flow(limits());
    }

    /// Says whether somebody found room.
    fn give_room(&self) -> bool {
        let now = self.now();
        let given = self.bed.store.give_room(now);
        self.runtime.block_on(given).unwrap().granted > 0
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Push => {
                self.head += 1;
                self.append(Kind::Push(self.head));
            }
            Step::Close => {
                self.closed = true;
                self.append(Kind::Close);
            }
            Step::Reopen => self.closed = false,
            Step::Cancel => self.append(Kind::Cancel),
            Step::Resend(n) => self.resend(n),
            Step::Late(n) => self.late(n),
            Step::Retry(n) => self.retry(n),
            Step::Decide(worker) => self.decide(worker, Settlement::Decided),
            Step::Fail(worker) => self.decide(worker, Settlement::Failed),
            Step::Postpone(worker) => self.postpone(worker),
            Step::Take(worker) => drop(self.take(worker)),
            Step::Carry(worker) => self.carry(worker),
            Step::Answer(worker) => self.answer(worker),
            Step::Lose(worker) => self.lose(worker),
            Step::Crash(worker) => self.workers[worker] = Worker::default(),
            Step::Stall => self.bed.pass(TTL + Duration::from_secs(1)),
            Step::Watch(n) => self.watch(n),
            Step::End(n) => self.end(n),
            Step::Prune(n) => self.prune(n),
            Step::GiveRoom => drop(self.give_room()),
            Step::Restart => self.restart(),
        }
    }

    /// Lets everything come to rest: nothing fails any more, and the watch tells all.
    fn rest(&mut self) {
        self.workers = Default::default();
        for _ in 0..200 {
            self.bed.pass(TTL + Duration::from_secs(1));
            let (decided, acted) = (self.decide_all(), self.act_all());
            let ids: Vec<EffectId> = self.objects.keys().copied().collect();
            for id in ids {
                self.tell(id);
            }
            let given = self.give_room();
            if !decided && !acted && !given && !self.goes_on() {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// What would hold up whoever waits for room ends. Says whether something did.
    fn goes_on(&mut self) -> bool {
        let waiting = self.runtime.block_on(self.bed.store.queue(10)).unwrap();
        if waiting.is_empty() {
            return false;
        }
        let running = self
            .objects
            .values_mut()
            .find(|object| object.there && !object.stopped && !object.ended);
        running.is_some_and(|object| {
            object.ended = true;
            true
        })
    }

    fn decide_all(&mut self) -> bool {
        let mut any = false;
        while self.pending(0).is_some() {
            self.decide(0, Settlement::Decided);
            any = true;
        }
        any
    }

    fn act_all(&mut self) -> bool {
        let mut any = false;
        while self.take(0) {
            if matches!(self.workers[0].acting, Some((_, Some(_)))) {
                self.answer(0);
                any = true;
            }
        }
        any
    }

    fn check_at_rest(&mut self) {
        for event in &self.events {
            let explained = self
                .runtime
                .block_on(self.bed.store.explain(None, &event.id.as_str().into()))
                .unwrap()
                .unwrap();
            let outcome = explained.delivery.outcome;
            assert_eq!(
                outcome == DeliveryOutcome::Decided,
                event.decided,
                "{event:?} is {outcome:?}"
            );
            for effect in explained.effects {
                assert_ne!(
                    effect.state,
                    crate::EffectState::Waiting,
                    "{event:?} left {effect:?}"
                );
            }
        }
        for (id, (n, attempt)) in &self.starts {
            self.check_run(id, *n, *attempt);
        }
        self.check_order();
    }

    /// A run exists once or was withdrawn; it goes on only if nothing that came later ends it.
    fn check_run(&self, id: &EffectId, n: usize, attempt: u32) {
        let event = &self.events[n];
        let run = self
            .runtime
            .block_on(self.bed.store.run(id))
            .unwrap()
            .unwrap();
        let state = run.run.state;
        let object = self.objects.get(id);
        let alive = object.is_some_and(|it| it.there && !it.stopped && !it.ended);
        match object {
            None => assert_eq!(state, RunState::Canceled, "{event:?} has no run"),
            Some(_) if alive => assert_eq!(state, RunState::Running, "{event:?}"),
            Some(_) => assert!(state.is_final(), "{event:?} is {state:?}"),
        }
        let Kind::Push(commit) = event.kind else {
            panic!("{event:?} started a run");
        };
        let ends = |later: &&Event| {
            later.decided
                && !later.past
                && later.seq > event.seq
                && match later.kind {
                    Kind::Push(head) => head != commit,
                    Kind::Close | Kind::Cancel => true,
                }
        };
        let ended_by = self.events.iter().find(ends);
        if let Some(later) = ended_by
            && attempt == 1
        {
            assert!(!alive, "{event:?} goes on after {later:?}");
        }
        if ended_by.is_none() {
            let cancelled = object.is_none_or(|it| it.stopped);
            assert!(!cancelled, "{event:?} was cancelled by nothing");
        }
    }

    /// First attempts are created in the order of their deliveries, but for those that were put off.
    fn check_order(&self) {
        let seqs: Vec<u64> = self
            .created
            .iter()
            .filter_map(|id| self.starts.get(id))
            .filter(|(n, attempt)| *attempt == 1 && !self.events[*n].put_off)
            .map(|(n, _)| self.events[*n].seq)
            .collect();
        assert!(seqs.is_sorted(), "created out of order: {seqs:?}");
    }
}

fn pick<T>(all: &[T], n: usize) -> Option<&T> {
    all.get(n.checked_rem(all.len())?)
}

struct Explored;

impl StateMachineTest for Explored {
    type SystemUnderTest = World;
    type Reference = Steps;

    fn init_test(_pushes: &u32) -> World {
        World::new()
    }

    fn apply(mut world: World, _pushes: &u32, step: Step) -> World {
        world.step(step);
        world
    }

    fn check_invariants(world: &World, pushes: &u32) {
        assert_eq!(world.head, *pushes);
        let mut once = BTreeSet::new();
        for id in &world.created {
            let Some(of) = world.starts.get(id) else {
                panic!("{id} was created and nobody ordered it");
            };
            assert!(once.insert(of), "{of:?} has two runs");
        }
    }

    fn teardown(mut world: World, _pushes: u32) {
        world.rest();
        world.check_at_rest();
    }
}

prop_state_machine! {
    #![proptest_config(Config { cases: 48, max_shrink_iters: 400, failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_crosses_nothing_is_done_twice_and_what_is_newer_wins(sequential 10..60 => Explored);
}
