//! The conversation on a session's stream, over any pair of byte streams.

use super::SessionError;
use crate::clock::uptime_ms;
use crate::hardware::Hardware;
use crate::images::{Attending, Exchange, Inquiry};
use crate::offers::Offers;
use crate::reconciler::{Followed, Reconciling};
use bramble_core::lease::{LEASE_MS, LEASE_RENEW_MS};
use bramble_core::model::{Agent, VolumeId};
use bramble_protocol::message::{HeldImage, ToAgent, ToMaster};
use bramble_protocol::net::{Directory, Endpoint, FrameError, read_frame, write_frame};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

/// Longest wait for the welcome: the leader commits this agent first, on a slow card.
const WELCOME_MAX: Duration = Duration::from_secs(10);
/// Pause between two looks at which lent ports other programs took.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
/// Requests for a complete set waiting to be sent: one is enough.
const RESYNCS_MAX: usize = 1;

/// Say who speaks and wait to be welcomed.
pub(super) async fn greet(
    agent: &Agent,
    life: u64,
    send: &mut (impl AsyncWrite + Unpin),
    receive: &mut (impl AsyncRead + Unpin),
) -> Result<(), SessionError> {
    write_frame(send, &ToMaster::Hello { agent: agent.clone(), life }).await?;
    let answer = tokio::time::timeout(WELCOME_MAX, read_frame(receive));
    match answer.await.map_err(|_| SessionError::NotWelcomed)?? {
        Some(ToAgent::Welcome) => Ok(()),
        Some(ToAgent::NotLeading { leader, masters }) => {
            Err(SessionError::NotLeading { leader, masters })
        }
        Some(_) => Err(SessionError::OutOfTurn),
        None => Err(SessionError::Ended),
    }
}

/// Whom a session concerns besides the agent's record.
#[derive(Clone, Copy)]
pub(super) struct Heard<'a> {
    pub reconciling: &'a Reconciling,
    pub directory: &'a Directory,
    pub images: &'a Exchange,
    /// Where what it shows and believes is kept; none in tests of the conversation.
    pub endpoint: Option<&'a Endpoint>,
    pub hardware: &'a watch::Receiver<Arc<Hardware>>,
    /// The agent without what its hardware says.
    pub bare: &'a Agent,
}

/// The agent's record with what its hardware says of itself. What users said stands above it.
pub(super) fn with_hardware(agent: &Agent, hardware: &Hardware) -> Agent {
    let mut agent = agent.clone();
    for (name, value) in hardware.attributes() {
        agent.attributes.entry(name).or_insert(value);
    }
    agent
}

/// Speak until the stream ends or a set cannot be taken.
pub(super) async fn speak(
    agent: &Agent,
    heard: Heard<'_>,
    send: impl AsyncWrite + Unpin,
    receive: impl AsyncRead + Unpin,
) -> Result<(), SessionError> {
    let (resync, resyncs) = mpsc::channel(RESYNCS_MAX);
    tokio::select! {
        ended = listen(heard, receive, resync) => ended,
        ended = tell(agent, heard, send, resyncs) => ended,
    }
}

/// Take what the leader says.
async fn listen(
    heard: Heard<'_>,
    mut receive: impl AsyncRead + Unpin,
    resync: mpsc::Sender<()>,
) -> Result<(), SessionError> {
    let Heard { reconciling, directory, images, endpoint, .. } = heard;
    while let Some(said) = read_frame(&mut receive).await? {
        match said {
            ToAgent::Welcome | ToAgent::NotLeading { .. } => return Err(SessionError::OutOfTurn),
            ToAgent::Masters(masters) => masters.iter().for_each(|seen| directory.hear(seen)),
            ToAgent::Members { masters, removed } => {
                directory.refuse(removed.into_iter().collect());
                if let Some(Err(error)) = endpoint.map(|e| e.pin(masters.into_iter().collect())) {
                    tracing::error!(%error, "the keys of the masters are not believed");
                }
            }
            ToAgent::Identity { certificate, ca } => {
                if let Some(Err(error)) = endpoint.map(|e| e.renew(certificate, ca)) {
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "this node was not certified anew");
                }
            }
            ToAgent::Acknowledge(keys) => reconciling.acknowledge(keys).await,
            ToAgent::Lease { asked_ms, ttl_ms } => {
                // Nobody is believed to have been asked in the future, or to give more than there is.
                let until_ms = asked_ms.min(uptime_ms()).saturating_add(ttl_ms.min(LEASE_MS));
                reconciling.renew(until_ms).await;
            }
            ToAgent::RemoveVolumes(ids) => reconciling.give_up(ids.into_iter().collect()).await,
            ToAgent::Holders { inquiry, holders } => images.answer(inquiry, holders),
            ToAgent::Assignments(set) => {
                let generation = set.generation;
                match reconciling.follow(set).await? {
                    Followed::Taken => tracing::debug!(generation, "assignments taken"),
                    Followed::Older => tracing::warn!(
                        generation,
                        held = reconciling.held.borrow().generation,
                        "an older assignment set was refused: this leader is behind"
                    ),
                    Followed::Gap => {
                        tracing::debug!(generation, "asking for a complete assignment set");
                        // One that already waits will do.
                        let _ = resync.try_send(());
                    }
                }
            }
        }
    }
    Err(SessionError::Ended)
}

/// Say what is new: statuses not yet sent on this session, and offers.
async fn tell(
    agent: &Agent,
    heard: Heard<'_>,
    mut send: impl AsyncWrite + Unpin,
    mut resyncs: mpsc::Receiver<()>,
) -> Result<(), SessionError> {
    let Heard { reconciling, images, .. } = heard;
    let mut hardware = heard.hardware.clone();
    let mut statuses = reconciling.outbox.watch();
    let mut held = reconciling.held.clone();
    let mut offers = Offers::new(agent.clone());
    let mut sent = BTreeSet::new();
    let mut removed = reconciling.removed.clone();
    let mut told_removed = BTreeSet::new();
    let mut of_images = OfImages::of(images);
    let mut looks = tokio::time::interval(LOOK_PAUSE);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first look is taken here, not by the interval.
    looks.reset();
    offers.look_at_ports();
    let mut renew = Instant::now();
    loop {
        statuses.mark_unchanged();
        loop {
            let unsent = reconciling.outbox.take_unsent(&mut sent);
            if unsent.is_empty() {
                break;
            }
            write_frame(&mut send, &ToMaster::Statuses(unsent)).await?;
        }
        let gone = removed.borrow_and_update().clone();
        let news: Vec<VolumeId> = gone.difference(&told_removed).cloned().collect();
        if !news.is_empty() {
            write_frame(&mut send, &ToMaster::VolumesRemoved(news)).await?;
        }
        told_removed = gone;
        of_images.say(&mut send).await?;
        let seen = hardware.borrow_and_update().clone();
        if with_hardware(heard.bare, &seen) != *agent {
            // They are stored with the agent, and a hello is what stores it.
            return Err(SessionError::Changed);
        }
        offers.look_at_hardware(seen);
        let offer = offers.next(&held.borrow_and_update());
        if let Some(offer) = offer {
            write_frame(&mut send, &ToMaster::Offer(offer)).await?;
        }
        let leased = held.borrow().leased;
        if leased && renew <= Instant::now() {
            // Taken before it is sent: the answer may take its time, the lease does not wait.
            write_frame(&mut send, &ToMaster::Renew { asked_ms: uptime_ms() }).await?;
            renew = Instant::now() + Duration::from_millis(LEASE_RENEW_MS);
        }
        send.flush().await.map_err(|error| SessionError::Frame(FrameError::Write(error)))?;
        // Senders outlive the session: where they do not, the agent is going down.
        tokio::select! {
            Ok(()) = statuses.changed() => {}
            Ok(()) = held.changed() => {}
            Ok(()) = removed.changed() => {}
            Ok(()) = hardware.changed() => {}
            () = of_images.changed() => {}
            Some(()) = resyncs.recv() => write_frame(&mut send, &ToMaster::Resync).await?,
            _ = looks.tick() => offers.look_at_ports(),
            () = tokio::time::sleep_until(renew), if leased => {}
        }
    }
}

/// What one session has said of images.
struct OfImages<'a> {
    attending: Attending<'a>,
    inquiries: watch::Receiver<u64>,
    held: watch::Receiver<Arc<Vec<HeldImage>>>,
    /// A leader that has heard nothing on this session knows of none.
    told: Arc<Vec<HeldImage>>,
}

impl<'a> OfImages<'a> {
    fn of(images: &'a Exchange) -> Self {
        let (inquiries, held) = (images.inquiries(), images.held());
        Self { attending: images.attend(), inquiries, held, told: Arc::default() }
    }

    /// Say what is held, where it is news, and ask what was not asked yet.
    async fn say(&mut self, send: &mut (impl AsyncWrite + Unpin)) -> Result<(), SessionError> {
        let held = self.held.borrow_and_update().clone();
        if held != self.told {
            write_frame(send, &ToMaster::Images(held.to_vec())).await?;
            self.told = held;
        }
        self.inquiries.mark_unchanged();
        for Inquiry { number, reference, digest } in self.attending.unasked() {
            let asked = ToMaster::WhoHolds { inquiry: number, reference, digest };
            write_frame(send, &asked).await?;
        }
        Ok(())
    }

    /// Resolve when there may be something new to say.
    async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.held.changed() => {}
            Ok(()) = self.inquiries.changed() => {}
            // Both outlive the session: where they do not, the agent is going down.
            else => std::future::pending().await,
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
