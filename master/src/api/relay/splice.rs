//! Two connections that switched protocols, joined: whatever comes from one goes to the other.

use crate::api::limits::{LINGER_MAX, RELAY_BYTES};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Carry bytes both ways until both sides have ended, or one has broken. Once the leader's side
/// has ended, the client gets a moment to see it and leave.
pub(super) async fn splice(
    client: impl AsyncRead + AsyncWrite,
    leader: impl AsyncRead + AsyncWrite,
) -> io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_leader, mut to_leader) = tokio::io::split(leader);
    let up = carry(&mut from_client, &mut to_leader);
    let down = carry(&mut from_leader, &mut to_client);
    tokio::pin!(up, down);
    tokio::select! {
        ended = &mut up => {
            ended?;
            down.await
        }
        ended = &mut down => {
            ended?;
            tokio::time::timeout(LINGER_MAX, up).await.unwrap_or(Ok(()))
        }
    }
}

async fn carry(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; RELAY_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    #[tokio::test]
    async fn bytes_go_both_ways_and_ends_are_told() {
        let (mut client, a) = duplex(16);
        let (mut leader, b) = duplex(16);
        let spliced = tokio::spawn(splice(a, b));
        let said = vec![7u8; 100_000];
        let (sent, got) = tokio::join!(
            async {
                client.write_all(&said).await.unwrap();
                client.shutdown().await.unwrap();
            },
            async {
                let mut got = Vec::new();
                leader.read_to_end(&mut got).await.unwrap();
                leader.write_all(b"done").await.unwrap();
                drop(leader);
                got
            }
        );
        let () = sent;
        assert_eq!(got, said);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"done");
        spliced.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_client_that_breaks_off_is_not_waited_for() {
        let (client, a) = duplex(16);
        let (mut leader, b) = duplex(16);
        let spliced = tokio::spawn(splice(a, b));
        drop(client);
        // The end is told; what is said after it meets nobody.
        assert_eq!(leader.read(&mut [0; 8]).await.unwrap(), 0);
        leader.write_all(b"x").await.unwrap();
        assert!(spliced.await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stays_after_the_end_is_left() {
        let (mut client, a) = duplex(16);
        let (leader, b) = duplex(16);
        let spliced = tokio::spawn(splice(a, b));
        drop(leader);
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        spliced.await.unwrap().unwrap();
    }
}
