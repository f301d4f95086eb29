use super::*;
use crate::reconciler::fake::{Agent as FakeAgent, exited, within};
use crate::reconciler::{Ending, key_of};
use crate::samples::assignment;
use bramble_core::model::{
    AgentId, Assignment, Offer, Resources, TaskId, TaskState, TaskStatus, VolumeId,
};
use bramble_protocol::message::AssignmentSet;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::task::JoinHandle;

/// Bytes a stream holds in these tests; small enough that writers wait.
const PIPE_BYTES: usize = 256;

fn record() -> Agent {
    Agent {
        id: AgentId::new("n1"),
        name: "one".into(),
        total: Resources { cpus_milli: 1000, ..Resources::default() },
        ports: vec![],
        attributes: BTreeMap::new(),
        reachable: true,
    }
}

/// The leader's end of a session.
struct Leader {
    send: WriteHalf<DuplexStream>,
    receive: ReadHalf<DuplexStream>,
    speaking: JoinHandle<Result<(), SessionError>>,
}

impl Leader {
    fn of(agent: &FakeAgent) -> Leader {
        Self::of_images(agent, Arc::default())
    }

    fn of_images(agent: &FakeAgent, images: Arc<Exchange>) -> Leader {
        let (ours, theirs) = duplex(PIPE_BYTES);
        let (receive, send) = split(ours);
        let reconciling = agent.handle.clone();
        let speaking = tokio::spawn(async move {
            let (receive, send) = split(theirs);
            let directory = Directory::default();
            let (bare, (_, hardware)) = (record(), watch::channel(Arc::default()));
            let heard = Heard {
                reconciling: &reconciling,
                directory: &directory,
                images: &images,
                endpoint: None,
                hardware: &hardware,
                bare: &bare,
            };
            speak(&bare, heard, send, receive).await
        });
        Leader { send, receive, speaking }
    }

    async fn say(&mut self, what: ToAgent) {
        write_frame(&mut self.send, &what).await.unwrap();
    }

    async fn hear(&mut self) -> ToMaster {
        within(read_frame(&mut self.receive)).await.unwrap().unwrap()
    }

    /// Hear until something is found in what is said.
    async fn hear_until<T>(&mut self, mut find: impl FnMut(ToMaster) -> Option<T>) -> T {
        loop {
            if let Some(found) = find(self.hear().await) {
                return found;
            }
        }
    }

    async fn offer_at(&mut self, generation: u64) -> Offer {
        self.hear_until(|said| match said {
            ToMaster::Offer(offer) if offer.generation == generation => Some(offer),
            _ => None,
        })
        .await
    }

    async fn status(&mut self, state: TaskState) -> TaskStatus {
        self.hear_until(|said| match said {
            ToMaster::Statuses(statuses) => statuses.into_iter().find(|s| s.state == state),
            _ => None,
        })
        .await
    }
}

fn set(generation: u64, base: Option<u64>, put: Vec<Assignment>) -> ToAgent {
    ToAgent::Assignments(AssignmentSet { generation, base, put, ..<_>::default() })
}

#[tokio::test]
async fn the_first_word_is_hello_and_the_answer_must_be_welcome() {
    let cases = [
        (Some(ToAgent::Welcome), None),
        (Some(ToAgent::Acknowledge(vec![])), Some("the leader spoke before its welcome")),
        (None, Some("the leader ended the session")),
    ];
    for (answer, expected) in cases {
        let (ours, theirs) = duplex(PIPE_BYTES);
        let leader = tokio::spawn(async move {
            let (mut receive, mut send) = split(ours);
            let hello = read_frame(&mut receive).await.unwrap();
            assert_eq!(hello, Some(ToMaster::Hello { agent: record(), life: 7 }));
            if let Some(answer) = answer {
                write_frame(&mut send, &answer).await.unwrap();
            }
        });
        let (mut receive, mut send) = split(theirs);
        let greeted = within(greet(&record(), 7, &mut send, &mut receive)).await;
        assert_eq!(greeted.err().map(|error| error.to_string()).as_deref(), expected);
        leader.await.unwrap();
    }
}

#[tokio::test]
async fn statuses_are_sent_again_on_every_session_until_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let machine = Arc::default();
    let agent = FakeAgent::start(directory.path(), &machine, "boot").await;
    let mut leader = Leader::of(&agent);
    leader.say(set(1, None, vec![assignment("a", true)])).await;
    let running = leader.status(TaskState::Running).await;
    drop(leader);

    let mut leader = Leader::of(&agent);
    assert_eq!(leader.status(TaskState::Running).await, running, "sent again");
    leader.say(ToAgent::Acknowledge(vec![key_of(&running)])).await;
    machine.exit("a", Ending::Exited(exited(0, false)));
    let finished = leader.status(TaskState::Finished).await;
    assert_eq!(finished.sequence, running.sequence + 1);
    drop(leader);

    let mut leader = Leader::of(&agent);
    match leader.hear().await {
        ToMaster::Statuses(statuses) => assert_eq!(statuses, [finished]),
        other => panic!("{other:?}"),
    }
    agent.leave().await;
}

#[tokio::test]
async fn offers_follow_what_is_held_and_do_not_chatter() {
    let directory = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(directory.path(), &Arc::default(), "boot").await;
    let mut leader = Leader::of(&agent);
    assert_eq!(leader.offer_at(0).await.free.cpus_milli, 1000);
    leader.say(set(5, None, vec![assignment("a", true)])).await;
    assert_eq!(leader.offer_at(5).await.free.cpus_milli, 900);
    // The same set says nothing new, so that the next offer is the one after it.
    leader.say(set(5, None, vec![assignment("a", true)])).await;
    leader.say(set(6, Some(5), vec![assignment("b", true)])).await;
    let offers = leader
        .hear_until(|said| match said {
            ToMaster::Offer(offer) => Some(offer),
            _ => None,
        })
        .await;
    assert_eq!((offers.generation, offers.free.cpus_milli), (6, 800));
    agent.leave().await;
}

#[tokio::test]
async fn a_gap_is_answered_by_asking_for_everything_and_older_sets_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(directory.path(), &Arc::default(), "boot").await;
    let mut leader = Leader::of(&agent);
    leader.say(set(5, None, vec![assignment("a", true)])).await;
    leader.say(set(4, None, vec![])).await;
    leader.say(set(9, Some(7), vec![assignment("b", true)])).await;
    leader.hear_until(|said| (said == ToMaster::Resync).then_some(())).await;
    assert_eq!(agent.handle.held.borrow().generation, 5);
    leader.say(set(9, None, vec![assignment("b", true)])).await;
    leader.offer_at(9).await;
    let seen = |id| agent.handle.roster.seen(&TaskId::new(id));
    assert!(seen("b").is_some());
    assert!(!leader.speaking.is_finished());
    agent.leave().await;
}

#[tokio::test]
async fn that_volumes_are_gone_is_told_on_every_session_that_orders_it() {
    let directory = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(directory.path(), &Arc::default(), "boot").await;
    let ids = vec![VolumeId::new("v1"), VolumeId::new("v2")];
    for _ in 0..2 {
        let mut leader = Leader::of(&agent);
        leader.say(ToAgent::RemoveVolumes(ids.clone())).await;
        let mut gone = Vec::new();
        while gone != ids {
            gone.extend(
                leader
                    .hear_until(|said| match said {
                        ToMaster::VolumesRemoved(ids) => Some(ids),
                        _ => None,
                    })
                    .await,
            );
        }
    }
    agent.leave().await;
}

#[tokio::test]
async fn a_lease_is_asked_for_where_a_task_needs_one_and_lasts_no_longer_than_it_may() {
    let directory = tempfile::tempdir().unwrap();
    let machine: Arc<crate::reconciler::fake::Machine> = Arc::default();
    let agent = FakeAgent::start(directory.path(), &machine, "boot").await;
    let mut leader = Leader::of(&agent);
    leader.say(set(1, None, vec![assignment("plain", true)])).await;
    leader.status(TaskState::Running).await;
    let mut task = assignment("a", true);
    task.spec.alone.leased = true;
    leader.say(set(2, Some(1), vec![task])).await;
    let asked = |said| match said {
        ToMaster::Renew { asked_ms } => Some(asked_ms),
        _ => None,
    };
    let first = leader.hear_until(asked).await;
    // Asked again, answered or not.
    let second = leader.hear_until(asked).await;
    assert!(first < second && second <= uptime_ms());
    // An answer counts from when it was asked for, and never for more than a lease.
    leader.say(ToAgent::Lease { asked_ms: second, ttl_ms: u64::MAX }).await;
    leader.status(TaskState::Running).await;
    let until = |id: &str| machine.with(|state| state.leases.get(&TaskId::new(id)).copied());
    assert_eq!((until("a"), until("plain")), (Some(second + LEASE_MS), None));
    leader.say(ToAgent::Lease { asked_ms: u64::MAX, ttl_ms: LEASE_MS }).await;
    let renewed = |state: &crate::reconciler::fake::MachineState| {
        state.leases.get(&TaskId::new("a")).is_some_and(|until| *until > second + LEASE_MS)
    };
    within(machine.until(renewed)).await;
    assert!(until("a").is_some_and(|until| until <= uptime_ms() + LEASE_MS));
}

#[tokio::test]
async fn images_are_asked_for_on_the_session_and_answers_find_who_asked() {
    let directory = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(directory.path(), &Arc::default(), "boot").await;
    let images: Arc<Exchange> = Arc::default();
    let mut leader = Leader::of_images(&agent, Arc::clone(&images));
    leader.offer_at(0).await;
    let asking = images.who_holds("x:1".into(), None);
    let answering = async {
        let inquiry = leader.hear_until(|said| match said {
            ToMaster::WhoHolds { inquiry, reference, .. } if reference == "x:1" => Some(inquiry),
            _ => None,
        });
        let inquiry = inquiry.await;
        leader.say(ToAgent::Holders { inquiry, holders: vec![] }).await;
    };
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer, Some(vec![]));
    agent.leave().await;
}

#[tokio::test]
async fn the_end_of_the_stream_is_the_end_of_the_session() {
    let directory = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(directory.path(), &Arc::default(), "boot").await;
    let Leader { send, receive, speaking } = Leader::of(&agent);
    drop((send, receive));
    assert!(within(speaking).await.unwrap().is_err());
    agent.leave().await;
}
