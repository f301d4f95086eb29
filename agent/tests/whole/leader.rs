//! A leader that does what the test says: welcomes, assigns, hears, opens streams.

use super::parts::{Outcome, Parts, text};
use bramble_core::model::{Assignment, TaskId, TaskState, TaskStatus};
use bramble_protocol::message::{
    AssignmentSet, StatusKey, StreamReply, StreamRequest, ToAgent, ToMaster,
};
use bramble_protocol::net::{Endpoint, Link, read_frame, write_frame};
use quinn::{RecvStream, SendStream};
use std::net::SocketAddr;
use std::time::Duration;

/// Largest log that is read.
const LOG_BYTES_MAX: usize = 1 << 20;
/// Looks at a log that is empty, and the pause between two.
const LOOKS_MAX: usize = 500;
const LOOK: Duration = Duration::from_millis(20);

pub struct Leader {
    endpoint: Endpoint,
    at: SocketAddr,
}

impl Leader {
    pub fn new(parts: &Parts) -> Outcome<Leader> {
        let local = ([127, 0, 0, 1], 0).into();
        let endpoint = Endpoint::bind(local, Some(parts.master.clone())).map_err(text)?;
        let address = endpoint.local_addr().map_err(text)?;
        Ok(Leader { endpoint, at: address })
    }

    pub fn at(&self) -> Outcome<SocketAddr> {
        Ok(self.at)
    }

    /// Take the next session up to its welcome. A link that its agent has left by then is passed
    /// over: what it sent can still be read, but nobody hears an answer.
    pub async fn welcome(&self) -> Outcome<Standing> {
        loop {
            let link = self.endpoint.accept().await.ok_or("the endpoint is closed")?;
            let greeted = greet(&link).await;
            match greeted {
                Ok((send, receive)) => {
                    return Ok(Standing { link, send, receive, generation: 0, heard: Vec::new() });
                }
                Err(_) if link.connection.close_reason().is_some() => {}
                Err(reason) => return Err(reason),
            }
        }
    }
}

async fn greet(link: &Link) -> Outcome<(SendStream, RecvStream)> {
    let (mut send, mut receive) = link.connection.accept_bi().await.map_err(text)?;
    match read_frame(&mut receive).await.map_err(text)? {
        Some(ToMaster::Hello { agent, .. }) if agent.total.cpus_milli > 0 => {}
        other => return Err(format!("no hello: {other:?}")),
    }
    write_frame(&mut send, &ToAgent::Welcome).await.map_err(text)?;
    Ok((send, receive))
}

/// A session that stands.
pub struct Standing {
    link: Link,
    send: SendStream,
    receive: RecvStream,
    /// Of the last set sent; a later session goes on from there.
    pub generation: u64,
    /// Statuses heard and not yet acknowledged.
    pub heard: Vec<TaskStatus>,
}

impl Standing {
    /// Send a set and wait until the agent has taken it, which its next offer tells.
    pub async fn assign(&mut self, base: Option<u64>, put: Vec<Assignment>) -> Outcome {
        // Later than anything an earlier session could have said.
        self.generation = self.generation.max(put.len() as u64) + 1;
        let generation = self.generation;
        let set = AssignmentSet { generation, base, put, ..<_>::default() };
        let frame = ToAgent::Assignments(set);
        write_frame(&mut self.send, &frame).await.map_err(text)?;
        while self.hear().await? < Some(generation) {}
        Ok(())
    }

    pub async fn until(&mut self, name: &str, state: TaskState) -> Outcome<TaskStatus> {
        self.until_where(name, |status| status.state == state).await
    }

    /// Hear until a status of the task `name...` is as wanted. Another end is a failure.
    pub async fn until_where(
        &mut self,
        name: &str,
        wanted: impl Fn(&TaskStatus) -> bool,
    ) -> Outcome<TaskStatus> {
        loop {
            let of_task = |s: &&TaskStatus| s.task_id.as_str().starts_with(name);
            let last = self.heard.iter().rev().find(of_task);
            if let Some(found) = self.heard.iter().filter(of_task).find(|s| wanted(s)) {
                return Ok(found.clone());
            }
            if let Some(last) = last.filter(|last| last.state.is_terminal()) {
                return Err(format!("{name} ended: {last:?}"));
            }
            self.hear().await?;
        }
    }

    pub async fn acknowledge_all(&mut self) -> Outcome {
        let key = |s: &TaskStatus| StatusKey { task_id: s.task_id.clone(), sequence: s.sequence };
        let keys = self.heard.drain(..).map(|s| key(&s)).collect();
        write_frame(&mut self.send, &ToAgent::Acknowledge(keys)).await.map_err(text)?;
        // A set after it is answered after it was taken.
        let generation = self.generation + 1;
        let base = Some(self.generation);
        let set = AssignmentSet { generation, base, ..<_>::default() };
        self.generation = generation;
        let frame = ToAgent::Assignments(set);
        write_frame(&mut self.send, &frame).await.map_err(text)?;
        while self.hear().await? < Some(generation) {}
        Ok(())
    }

    /// Hear one frame; gives the generation of an offer.
    async fn hear(&mut self) -> Outcome<Option<u64>> {
        match read_frame(&mut self.receive).await.map_err(text)? {
            Some(ToMaster::Statuses(statuses)) => {
                self.heard.extend(statuses);
                Ok(None)
            }
            Some(ToMaster::Images(_)) => Ok(None),
            Some(ToMaster::WhoHolds { inquiry, .. }) => {
                let nobody = ToAgent::Holders { inquiry, holders: Vec::new() };
                write_frame(&mut self.send, &nobody).await.map_err(text)?;
                Ok(None)
            }
            Some(ToMaster::Offer(offer)) => Ok(Some(offer.generation)),
            other => Err(format!("the agent said {other:?}")),
        }
    }

    pub async fn open(&self, request: StreamRequest) -> Outcome<(SendStream, RecvStream)> {
        let (mut send, mut receive) = self.link.connection.open_bi().await.map_err(text)?;
        write_frame(&mut send, &request).await.map_err(text)?;
        match read_frame(&mut receive).await.map_err(text)? {
            Some(StreamReply::Ready) => Ok((send, receive)),
            other => Err(format!("{request:?}: {other:?}")),
        }
    }

    pub async fn read_log(&self, task_id: &TaskId) -> Outcome<String> {
        let task_id = task_id.clone();
        let request =
            StreamRequest::Logs { task_id, stderr: false, follow: false, tail_lines: None };
        let (_send, mut receive) = self.open(request).await?;
        let bytes = receive.read_to_end(LOG_BYTES_MAX).await.map_err(text)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Read a task's log once it has something: a task may run before it has spoken.
    pub async fn read_first_log(&self, task_id: &TaskId) -> Outcome<String> {
        for _ in 0..LOOKS_MAX {
            let logs = self.read_log(task_id).await?;
            if !logs.is_empty() {
                return Ok(logs);
            }
            tokio::time::sleep(LOOK).await;
        }
        Err("a task that shall speak says nothing".into())
    }
}
