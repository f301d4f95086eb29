//! Any node answers: decides who answers a request, this node or another one, and what to say when
//! nobody can.
//!
//! ```text
//! request -> of this node alone? -> handlers
//!            this node leads      -> gate (reads) -> handlers
//!            another leads        -> forward -> its relay (never passed on again) -> handlers
//!            no master            -> forward to any -> its relay -> as above
//!            nobody, for a while  -> reads: local state, marked stale; the rest: 503
//! ```
//!
//! Knows nothing of what handlers do, of consensus, or of what connects nodes.

mod content;
mod forward;
mod head;
mod probe;
mod scope;
mod splice;

pub use probe::answers;

pub(crate) use head::{Aim, NOT_LEADER_HEADER, Origin, forget, origin};

use super::dispatch::{self, Call, Content};
use super::error::ApiError;
use super::limits::{LEADER_RETRY_EVERY, LEADER_TIME_MAX};
use super::reply::Reply;
use super::route::Route;
use crate::masters::Lead;
use crate::propose::ProposeError;
use content::Kept;
use forward::forward;
use http::header::WARNING;
use http::{HeaderName, HeaderValue};
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

/// Says that an answer may lack recent changes.
const STALE_HEADER: HeaderName = HeaderName::from_static("x-bramble-stale");

/// Marks an answer that another node has finished: nothing is to be added or compressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed;

/// Since when nobody has answered for the cluster, so that not every read waits.
#[derive(Default)]
pub(crate) struct Quiet(Mutex<Option<Instant>>);

impl Quiet {
    fn begin(&self) -> Instant {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *since.get_or_insert_with(Instant::now)
    }

    fn end(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// What became of one attempt to have a request answered.
enum Attempt {
    Answered(Result<Reply, ApiError>),
    /// Nobody did anything: it may be tried again.
    NotDone,
    /// Nobody answered, and the leader may have done it.
    Unsure,
}

/// Have a request answered by whoever can.
pub(crate) async fn settle(
    target: Route,
    call: &Call,
    content: Content,
) -> Result<Reply, ApiError> {
    if scope::is_of_node(&target, &call.method) {
        return dispatch::perform(target, call, content).await;
    }
    let mut kept = Kept::of(&target, &call.headers, content).await?;
    let reads = dispatch::reads(&call.method);
    let mut lead = call.api().masters.lead();
    let arrived = Instant::now();
    loop {
        // Whoever leads turns this node away unheard, which it could not tell from a lost answer.
        if call.aim.is_none() && call.api().farewell().is_some() {
            return nobody(target, call, kept).await;
        }
        let now = lead.borrow_and_update().clone();
        match attempt(&target, call, &mut kept, now).await {
            Attempt::Answered(answer) => {
                call.shared.quiet.end();
                return answer;
            }
            Attempt::Unsure if !reads && !scope::may_be_repeated(&target, &call.method) => {
                return Err(ApiError::LeaderLost);
            }
            Attempt::NotDone | Attempt::Unsure => {}
        }
        // The node it came to first waits and decides; it may know of another leader.
        if call.aim == Some(Aim::Leader) || !kept.is_there() {
            return Err(ApiError::NotLeader);
        }
        let since = call.shared.quiet.begin();
        let deadline = if reads { since } else { arrived } + LEADER_TIME_MAX;
        if Instant::now() >= deadline {
            return nobody(target, call, kept).await;
        }
        let again = deadline.min(Instant::now() + LEADER_RETRY_EVERY);
        tokio::select! {
            changed = lead.changed() => if changed.is_err() {
                return nobody(target, call, kept).await;
            },
            () = tokio::time::sleep_until(again) => {}
        }
    }
}

async fn attempt(target: &Route, call: &Call, kept: &mut Kept, lead: Lead) -> Attempt {
    match lead {
        Lead::Here { term } => here(target, call, kept, term).await,
        Lead::Nobody => Attempt::NotDone,
        Lead::At(_) if call.aim == Some(Aim::Leader) => Attempt::NotDone,
        Lead::Masters(_) if call.aim.is_some() => Attempt::NotDone,
        _ if head::is_loop(&call.headers, &call.shared.address()) => {
            Attempt::Answered(Err(ApiError::ForwardingLoop))
        }
        Lead::At(leader) => forward(call, kept, &leader, Aim::Leader).await,
        Lead::Masters(masters) => {
            for master in &masters {
                match forward(call, kept, master, Aim::Master).await {
                    Attempt::NotDone if kept.is_there() => {}
                    Attempt::Unsure if dispatch::reads(&call.method) => {}
                    settled => return settled,
                }
            }
            Attempt::NotDone
        }
    }
}

/// Answer as the leader, once it is certain that this node still is.
async fn here(target: &Route, call: &Call, kept: &mut Kept, term: u64) -> Attempt {
    let (api, reads) = (call.api(), dispatch::reads(&call.method));
    if reads && api.gate.fresh().await.is_err() {
        return Attempt::NotDone;
    }
    let answer = dispatch::perform(target.clone(), call, kept.content()).await;
    match answer {
        Err(ApiError::Propose(ProposeError::NotLeader)) => Attempt::NotDone,
        // A refusal that the log has not seen was read from the state, and is only as true.
        Err(error) if !reads && !matches!(error, ApiError::Propose(_)) => {
            let certain = !error.status().is_client_error()
                || api.gate.fresh().await.is_ok()
                    && *api.masters.lead().borrow() == Lead::Here { term };
            if certain { Attempt::Answered(Err(error)) } else { Attempt::NotDone }
        }
        answer => Attempt::Answered(answer),
    }
}

/// Say what can be said without a leader.
async fn nobody(target: Route, call: &Call, mut kept: Kept) -> Result<Reply, ApiError> {
    if target == Route::Leader {
        return Err(ApiError::NoLeader);
    }
    let api = call.api();
    let farewell = api.farewell();
    let sayable = api.own.is_none() || scope::is_of_tasks(&target, &call.headers);
    let reads = dispatch::reads(&call.method);
    if !reads || !sayable {
        return Err(match farewell {
            Some(farewell) if reads => ApiError::NoMaster(farewell.told()),
            Some(farewell) => ApiError::NoMaster(format!("nothing was done: {}", farewell.told())),
            None => ApiError::NoMaster(api.masters.absence().await),
        });
    }
    if let Some(own) = &api.own {
        let state = own().await;
        api.store.write(|shown| {
            *shown = state;
            ((), Vec::new())
        });
    }
    let mut answer = match dispatch::perform(target, call, kept.content()).await {
        // That this node runs none of it does not mean that there is none.
        Err(ApiError::AppUnknown(_) | ApiError::GroupUnknown(_)) if api.own.is_some() => {
            return Err(ApiError::NoMaster(api.masters.absence().await));
        }
        answer => answer?,
    };
    let headers = answer.headers_mut();
    headers.insert(STALE_HEADER, HeaderValue::from_static("true"));
    let why = match (farewell, &api.own) {
        (Some(farewell), _) => farewell.told(),
        (None, Some(_)) => "no master answers: these are the tasks of this node alone".into(),
        (None, None) => "no leader: recent changes may be missing".into(),
    };
    if let Ok(warning) = HeaderValue::from_str(&format!("110 - \"{why}\"")) {
        headers.insert(WARNING, warning);
    }
    Ok(answer)
}
