//! Logs, exec and images, relayed to an agent over real QUIC.

use crate::api::testing::agent::{Agents, UNREAD, UNREAD_OUTPUTS, Upload, image};
use crate::api::testing::client::Client;
use crate::api::testing::{Node, state};
use axum::body::Body;
use bramble_core::model::{AgentId, TaskState};
use bramble_protocol::message::{ExecInput, ExecOutput, OsRequest, StreamRequest};
use bramble_protocol::native::{EXEC_UPGRADE, ImageView, LoadLine};
use bramble_protocol::net::{read_frame, write_frame};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::AsyncWriteExt;

const TASK: &str = "a.instance-1._app.1";

async fn node() -> Node {
    let node = Node::start_with(Agents::one().await).await;
    node.edit(|all| {
        state::add_agent(all);
        state::add_app(all, "/a", 1);
        state::running(all, "/a", "1");
        state::add_app(all, "/b", 2);
        state::running(all, "/b", "21");
        state::running(all, "/b", "22");
    });
    node
}

#[tokio::test]
async fn logs_come_from_the_tasks_agent() {
    let node = node().await;
    for name in ["a", "/a", TASK, "a.instance-1"] {
        let logs = node.get(&format!("/v1/bramble/tasks/{name}/logs?stderr=true&tail=5")).await;
        assert_eq!((logs.status, logs.text.as_str()), (200, "one\ntwo\n"), "{name}");
        assert_eq!(logs.header("content-type"), "text/plain; charset=utf-8");
    }
    let seen = node.agents.seen.lock().unwrap().clone();
    let want = StreamRequest::Logs {
        task_id: bramble_core::model::TaskId::new(TASK),
        stderr: true,
        follow: false,
        tail_lines: Some(5),
    };
    assert_eq!(seen, vec![want; 4]);
}

#[tokio::test]
async fn logs_are_refused_with_a_reason() {
    let node = node().await;
    node.edit(|all| {
        let id = state::running(all, "/a", "far");
        let far = all.instances.get_mut(&id.instance().unwrap()).unwrap();
        far.task.as_mut().unwrap().agent_id = AgentId::new("gone");
    });
    let rows = [
        ("/v1/bramble/tasks/nope/logs", 404, r#"{"message":"Task 'nope' does not exist"}"#),
        ("/v1/bramble/tasks/a/logs?tail=0", 404, r#"{"message":"no log"}"#),
        (
            "/v1/bramble/tasks/a.instance-far/logs",
            503,
            r#"{"message":"agent gone is not connected"}"#,
        ),
        (
            "/v1/bramble/tasks/b.instance-2/logs",
            409,
            r#"{"message":"'b.instance-2' could be any of: b.instance-21._app.1, b.instance-22._app.1","candidates":["b.instance-21._app.1","b.instance-22._app.1"]}"#,
        ),
    ];
    for (path, status, text) in rows {
        let answer = node.get(path).await;
        assert_eq!((answer.status, answer.text.as_str()), (status, text), "{path}");
    }
    let post = node.ask("POST", "/v1/bramble/tasks/a/logs", "").await;
    assert_eq!(post.status, 405);
}

#[tokio::test]
async fn a_followed_log_arrives_at_once_and_ends_with_its_reader() {
    let node = node().await;
    let mut client = node.tcp().await;
    let answer = client.open("GET", "/v1/bramble/tasks/a/logs?follow=true", &[], "").await;
    let mut body = answer.into_body();
    let mut text = Vec::new();
    while text.len() < 8 {
        text.extend_from_slice(body.frame().await.unwrap().unwrap().data_ref().unwrap());
    }
    assert_eq!(text, b"one\ntwo\n");
    drop((body, client));
    node.agents.unfollowed.notified().await;
}

#[tokio::test]
async fn a_followed_log_does_not_hold_up_a_shutdown() {
    let node = node().await;
    let mut client = node.tcp().await;
    let answer = client.open("GET", "/v1/bramble/tasks/a/logs?follow=true", &[], "").await;
    node.stop.cancel();
    node.served.await.unwrap();
    assert!(answer.into_body().collect().await.is_ok(), "it ends cleanly");
}

const UPGRADE: [(&str, &str); 2] = [("Connection", "Upgrade"), ("Upgrade", EXEC_UPGRADE)];

#[tokio::test]
async fn exec_relays_frames_both_ways() {
    let node = node().await;
    for mut client in [node.tcp().await, node.unix().await] {
        let path = "/v1/bramble/tasks/a/exec?arg=sh&arg=-c&arg=echo+hi&tty=true&rows=50";
        let answer = client.open("POST", path, &UPGRADE, "").await;
        assert_eq!(answer.status(), 101);
        assert_eq!(answer.headers()["upgrade"], EXEC_UPGRADE);
        let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
        write_frame(&mut stream, &ExecInput::Stdin(b"hello".to_vec())).await.unwrap();
        let output: Option<ExecOutput> = read_frame(&mut stream).await.unwrap();
        assert_eq!(output, Some(ExecOutput::Stdout(b"hello".to_vec())));
        write_frame(&mut stream, &ExecInput::StdinClosed).await.unwrap();
        let output: Option<ExecOutput> = read_frame(&mut stream).await.unwrap();
        assert_eq!(output, Some(ExecOutput::Exited(7)));
        let end: Option<ExecOutput> = read_frame(&mut stream).await.unwrap();
        assert_eq!(end, None);
    }
    let seen = node.agents.seen.lock().unwrap().clone();
    let want = StreamRequest::Exec {
        task_id: bramble_core::model::TaskId::new(TASK),
        command: ["sh", "-c", "echo hi"].map(str::to_string).to_vec(),
        tty: true,
        rows: 50,
        columns: 80,
    };
    assert_eq!(seen, vec![want; 2]);
}

#[tokio::test]
async fn input_that_the_command_leaves_unread_loses_none_of_its_output() {
    let node = node().await;
    for mut client in [node.tcp().await, node.unix().await] {
        let answer = client.open("POST", "/v1/bramble/tasks/a/exec?arg=x", &UPGRADE, "").await;
        let stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
        let (mut down, mut up) = tokio::io::split(stream);
        let typing = tokio::spawn(async move {
            write_frame(&mut up, &ExecInput::Stdin(UNREAD.to_vec())).await.unwrap();
            let more = ExecInput::Stdin(vec![b'y'; 1 << 14]);
            // Far more than all the buffers on the way hold.
            for _ in 0..512 {
                write_frame(&mut up, &more).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        for _ in 0..UNREAD_OUTPUTS {
            let output: Option<ExecOutput> = read_frame(&mut down).await.unwrap();
            assert!(matches!(output, Some(ExecOutput::Stdout(_))), "{output:?}");
        }
        let end: Option<ExecOutput> = read_frame(&mut down).await.unwrap();
        assert_eq!(end, Some(ExecOutput::Exited(7)));
        typing.abort();
    }
}

#[tokio::test]
async fn exec_needs_an_upgrade_a_command_and_a_running_task() {
    let node = node().await;
    node.edit(|all| {
        let id = state::running(all, "/a", "0");
        let task = all.instances.get_mut(&id.instance().unwrap()).unwrap().task.as_mut().unwrap();
        task.state = TaskState::Staging;
    });
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], u16, &'a str);
    let rows: [Row<'_>; 4] = [
        ("a/exec?arg=ls", &[], 426, "upgrade the connection to bramble-exec/1 to use this"),
        (
            "a/exec?arg=ls",
            &[("Connection", "Upgrade"), ("Upgrade", "websocket")],
            426,
            "upgrade the connection to bramble-exec/1 to use this",
        ),
        ("a/exec", &UPGRADE, 422, "give the command as one or more arg= values"),
        ("a.instance-0/exec?arg=ls", &UPGRADE, 409, "task a.instance-0._app.1 is not running"),
    ];
    for (path, headers, status, message) in rows {
        let path = format!("/v1/bramble/tasks/{path}");
        let answer = node.tcp().await.ask("POST", &path, headers, "").await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        assert_eq!(answer.json()["message"], message, "{path}");
    }
}

fn held() -> ImageView {
    let image = image();
    ImageView {
        reference: image.reference,
        digest: image.digest,
        platform: image.platform,
        size_bytes: image.size_bytes,
        created_unix_s: image.created_unix_s,
        agents: vec![state::AGENT.into()],
    }
}

async fn load(client: &mut Client, path: &str, archive: Body) -> Vec<LoadLine> {
    let answer = client.ask("POST", path, &[], archive).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn archive(first: &'static [u8], mebibytes: usize) -> Body {
    let rest = Bytes::from(vec![b'x'; 1 << 20]);
    let pieces = std::iter::once(Bytes::from_static(first))
        .chain(std::iter::repeat_n(rest, mebibytes))
        .map(Ok::<_, String>);
    Body::from_stream(futures_util::stream::iter(pieces))
}

#[tokio::test]
async fn images_are_listed_and_loaded() {
    let node = node().await;
    let list: Vec<ImageView> =
        serde_json::from_value(node.get("/v1/bramble/images").await.json()).unwrap();
    assert_eq!(list, [held()]);
    // Far over the limit of other bodies.
    for path in ["/v1/bramble/images", "/v1/bramble/images?agent=node1"] {
        let lines = load(&mut node.tcp().await, path, archive(b"tar", 32)).await;
        let bytes = (32 << 20) + 3;
        assert_eq!(
            lines,
            [
                LoadLine::Read(bytes),
                LoadLine::Note("unpacked".into()),
                LoadLine::Done(vec![held()])
            ]
        );
        assert_eq!(node.agents.upload().await, Upload::Begun);
        assert_eq!(node.agents.upload().await, Upload::Whole(bytes as usize));
    }
}

#[tokio::test]
async fn a_bad_archive_is_refused_while_it_still_comes() {
    let node = node().await;
    let mut client = node.tcp().await;
    let lines = load(&mut client, "/v1/bramble/images", archive(b"bad", 16)).await;
    assert_eq!(lines, [LoadLine::Failed("not an archive".into())]);
    let nobody = node.ask("POST", "/v1/bramble/images?agent=nobody", "").await;
    assert_eq!(nobody.status, 422);
    assert_eq!(nobody.json()["message"], "there is no agent 'nobody'");
}

#[tokio::test]
async fn an_archive_cut_off_is_no_whole_one() {
    let node = node().await;
    let mut client = tokio::net::TcpStream::connect(node.http).await.unwrap();
    let begin = "POST /v1/bramble/images HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\ntar";
    client.write_all(begin.as_bytes()).await.unwrap();
    assert_eq!(node.agents.upload().await, Upload::Begun);
    drop(client);
    assert_eq!(node.agents.upload().await, Upload::Cut);
}

#[tokio::test]
async fn without_an_agent_there_is_nowhere_to_load() {
    let node = Node::start().await;
    assert_eq!(node.get("/v1/bramble/images").await.text, "[]");
    let answer = node.ask("POST", "/v1/bramble/images", "").await;
    assert_eq!(
        (answer.status, answer.text.as_str()),
        (503, r#"{"message":"no agent is connected"}"#)
    );
}

#[tokio::test]
async fn images_of_machines_are_shown_staged_and_tried() {
    let node = node().await;
    let all = node.get("/v1/bramble/os").await.json();
    assert_eq!((&all[0]["host"], &all[0]["slots"]["board"]), (&json!("node1"), &json!("x86")));
    let one = node.get("/v1/bramble/agents/node1/os").await.json();
    assert_eq!(one["slots"]["slot"], "a");
    let mut client = node.tcp().await;
    let lines = load(&mut client, "/v1/bramble/agents/node1/os", archive(b"tar", 16)).await;
    assert!(matches!(lines.last(), Some(LoadLine::Done(_))), "{lines:?}");
    let answer = node.ask("POST", "/v1/bramble/agents/node1/os/try?alone=true", "").await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.text.contains("the spare slot is empty"), "{}", answer.text);
    let answer = node.ask("POST", "/v1/bramble/agents/node1/os/confirm", "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let seen = node.agents.seen.lock().unwrap().clone();
    assert!(seen.contains(&StreamRequest::Os(OsRequest::Try { alone: true })), "{seen:?}");
    assert_eq!(node.get("/v1/bramble/agents/nobody/os").await.status, 404);
    assert_eq!(node.ask("DELETE", "/v1/bramble/agents/node1/os", "").await.status, 405);
}
