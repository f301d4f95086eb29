//! Leaders that vanish: before a word, after the head, and with a link that merely stays silent.

use super::{APP, Pair, at, follower};
use crate::api::testing::Node;
use crate::masters::Relayed;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// A leader that reads the head of each request, says `words`, and does as it is told at `then`.
async fn leader_that_says(node: &Node, words: &'static str, stays: bool) -> mpsc::Receiver<String> {
    let (way, mut relayed) = mpsc::channel::<Relayed>(8);
    let (heard, hears) = mpsc::channel(8);
    node.wire.join("doomed", &way);
    node.wire.set(at("doomed"));
    tokio::spawn(async move {
        // Held, so that the node can always be dialled.
        let _way = way;
        let mut standing = Vec::new();
        while let Some(Relayed { mut pipe, .. }) = relayed.recv().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(pipe.read_u8().await.unwrap());
            }
            heard.send(String::from_utf8(head).unwrap()).await.unwrap();
            pipe.write_all(words.as_bytes()).await.unwrap();
            if stays {
                standing.push(pipe);
            }
        }
    });
    hears
}

#[tokio::test]
async fn a_write_whose_leader_vanishes_is_told_so_and_not_repeated() {
    let node = follower("node").await;
    let mut heard = leader_that_says(&node, "", false).await;
    let answer = node.ask("POST", "/v2/apps", APP).await;
    assert_eq!(answer.status, 502, "{}", answer.text);
    assert!(answer.text.contains("it may have been done"), "{}", answer.text);
    assert!(heard.recv().await.unwrap().starts_with("POST /v2/apps HTTP/1.1\r\n"));
    assert!(heard.try_recv().is_err(), "asked once");
}

#[tokio::test]
async fn a_read_whose_leader_vanishes_is_asked_again() {
    let Pair { leader: _leader, follower: node } = Pair::start().await;
    let mut heard = leader_that_says(&node, "", false).await;
    let asking = node.get("/v2/apps");
    let answer = tokio::join!(asking, async {
        heard.recv().await.unwrap();
        node.wire.set(at("leader"));
    });
    assert_eq!((answer.0.status, answer.0.text.as_str()), (200, r#"{"apps":[]}"#));
    assert_eq!(answer.0.header("x-bramble-stale"), "");
}

#[tokio::test]
async fn a_link_that_stays_silent_is_left_once_another_leads() {
    let Pair { leader: _leader, follower: node } = Pair::start().await;
    let mut heard = leader_that_says(&node, "", true).await;
    let (read, ()) = tokio::join!(node.get("/v2/apps"), async {
        heard.recv().await.unwrap();
        node.wire.set(at("leader"));
    });
    assert_eq!(read.status, 200);
    node.wire.set(at("doomed"));
    let (write, ()) = tokio::join!(node.ask("POST", "/v2/apps", APP), async {
        heard.recv().await.unwrap();
        node.wire.set(at("leader"));
    });
    assert_eq!(write.status, 502, "{}", write.text);
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_for_the_client_too() {
    let node = follower("node").await;
    let words = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nhalf";
    let _heard = leader_that_says(&node, words, false).await;
    let mut client = node.tcp().await;
    let answer = client.open("GET", "/v2/apps", &[], "").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.into_body().collect().await.is_err(), "not taken for the whole");
}
