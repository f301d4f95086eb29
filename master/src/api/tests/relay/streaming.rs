//! Long bodies, streams without an end and upgraded connections, by way of another master.

use super::Pair;
use crate::api::testing::agent::{Agents, Upload};
use crate::api::testing::state;
use axum::body::Body;
use bramble_protocol::message::{ExecInput, ExecOutput};
use bramble_protocol::native::{EXEC_UPGRADE, LoadLine};
use bramble_protocol::net::{read_frame, write_frame};
use bramble_protocol::rest::event::EventBody;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

async fn pair() -> Pair {
    let pair = Pair::with(Agents::one().await).await;
    pair.leader.edit(|all| {
        state::add_agent(all);
        state::add_app(all, "/a", 1);
        state::running(all, "/a", "1");
    });
    pair
}

#[tokio::test]
async fn an_archive_passes_whole_or_is_known_to_be_cut() {
    let Pair { leader, follower } = pair().await;
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let pieces = std::iter::repeat_n(piece, 32).map(Ok::<_, String>);
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    let answer = follower.tcp().await.ask("POST", "/v1/bramble/images", &[], body).await;
    let last = answer.text.lines().last().unwrap();
    assert!(matches!(serde_json::from_str(last).unwrap(), LoadLine::Done(_)), "{}", answer.text);
    assert_eq!(leader.agents.upload().await, Upload::Begun);
    assert_eq!(leader.agents.upload().await, Upload::Whole(32 << 20));

    let mut client = tokio::net::TcpStream::connect(follower.http).await.unwrap();
    let begin = "POST /v1/bramble/images HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\ntar";
    client.write_all(begin.as_bytes()).await.unwrap();
    assert_eq!(leader.agents.upload().await, Upload::Begun);
    drop(client);
    assert_eq!(leader.agents.upload().await, Upload::Cut);
}

#[tokio::test]
async fn a_bad_archive_is_refused_while_it_still_comes() {
    let Pair { follower, leader } = pair().await;
    let rest = Bytes::from(vec![b'x'; 1 << 20]);
    let pieces = std::iter::once(Bytes::from_static(b"bad"))
        .chain(std::iter::repeat_n(rest, 16))
        .map(Ok::<_, String>);
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    let answer = follower.tcp().await.ask("POST", "/v1/bramble/images", &[], body).await;
    assert_eq!(answer.text.trim_end(), r#"{"failed":"not an archive"}"#);
    drop(leader);
}

#[tokio::test]
async fn a_followed_log_arrives_at_once_and_ends_with_its_reader() {
    let Pair { leader, follower } = pair().await;
    let mut client = follower.tcp().await;
    let answer = client.open("GET", "/v1/bramble/tasks/a/logs?follow=true", &[], "").await;
    let mut body = answer.into_body();
    let mut text = Vec::new();
    while text.len() < 8 {
        text.extend_from_slice(body.frame().await.unwrap().unwrap().data_ref().unwrap());
    }
    assert_eq!(text, b"one\ntwo\n");
    drop((body, client));
    leader.agents.unfollowed.notified().await;
}

#[tokio::test]
async fn events_arrive_as_they_happen_and_name_the_client() {
    let Pair { leader, follower } = pair().await;
    let mut client = follower.tcp().await;
    let accept = [("Accept", "text/event-stream")];
    let answer = client.open("GET", "/v2/events", &accept, "").await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    let mut text = String::new();
    let mut until = async |what: &str| {
        while !text.contains(what) {
            let frame = body.frame().await.unwrap().unwrap();
            text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
        }
    };
    until("event_stream_attached").await;
    until("\"remoteAddress\":\"127.0.0.1\"").await;
    leader.hub.publish(EventBody::SchedulerDisconnected {});
    until("scheduler_disconnected_event").await;
    // A stream that never ends does not hold up the end of the node it passes through.
    follower.stop.cancel();
    follower.served.await.unwrap();
    while let Some(frame) = body.frame().await {
        frame.unwrap();
    }
}

#[tokio::test]
async fn a_command_is_spoken_to_through_both_nodes() {
    let Pair { leader, follower } = pair().await;
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", EXEC_UPGRADE)];
    for mut client in [follower.tcp().await, follower.unix().await] {
        let path = "/v1/bramble/tasks/a/exec?arg=cat";
        let answer = client.open("POST", path, &upgrade, "").await;
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["upgrade"], EXEC_UPGRADE);
        let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
        for said in [&b"hello"[..], &[b'x'; 100_000]] {
            write_frame(&mut stream, &ExecInput::Stdin(said.to_vec())).await.unwrap();
            let output: Option<ExecOutput> = read_frame(&mut stream).await.unwrap();
            assert_eq!(output, Some(ExecOutput::Stdout(said.to_vec())));
        }
        write_frame(&mut stream, &ExecInput::StdinClosed).await.unwrap();
        let output: Option<ExecOutput> = read_frame(&mut stream).await.unwrap();
        assert_eq!(output, Some(ExecOutput::Exited(7)));
        let end: Option<ExecOutput> = read_frame(&mut stream).await.unwrap();
        assert_eq!(end, None);
    }
    let refused = follower.tcp().await.ask("POST", "/v1/bramble/tasks/a/exec?arg=x", &[], "").await;
    assert_eq!((refused.status, refused.header("upgrade")), (426, EXEC_UPGRADE));
    drop(leader);
}
