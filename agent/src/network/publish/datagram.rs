//! A UDP socket that answers from the address it was asked at.
//!
//! One bound to the wildcard would answer from whichever address routing prefers, and a client
//! that asked another one of the host's addresses drops such an answer.

use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo};
use nix::sys::socket::sockopt::Ipv4PacketInfo;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Who asked, and at which of the host's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asker {
    pub client: SocketAddrV4,
    pub at: Ipv4Addr,
}

/// A UDP port on all IPv4 addresses of the host.
#[derive(Debug)]
pub struct AnsweringSocket {
    socket: UdpSocket,
}

impl AnsweringSocket {
    /// Bind `port` on every address.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn bind(port: u16) -> io::Result<AnsweringSocket> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        setsockopt(&socket, Ipv4PacketInfo, &true)?;
        Ok(AnsweringSocket { socket })
    }

    /// Receive one datagram.
    ///
    /// # Errors
    /// What the kernel has to report, also refusals of earlier answers (ICMP).
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Asker)> {
        self.socket.async_io(Interest::READABLE, || self.receive_now(buffer)).await
    }

    fn receive_now(&self, buffer: &mut [u8]) -> io::Result<(usize, Asker)> {
        let mut slices = [IoSliceMut::new(buffer)];
        let mut control = cmsg_space!(in_pktinfo);
        let message = recvmsg::<SockaddrIn>(
            self.socket.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::empty(),
        )?;
        let at = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(info.ipi_spec_dst),
            _ => None,
        });
        match (message.address, at) {
            (Some(client), Some(at)) => {
                let client = SocketAddrV4::new(client.ip(), client.port());
                let at = Ipv4Addr::from(u32::from_be(at.s_addr));
                Ok((message.bytes, Asker { client, at }))
            }
            _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }

    /// Answer from the address that was asked.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn answer(&self, to: Asker, datagram: &[u8]) -> io::Result<()> {
        let info = in_pktinfo {
            ipi_ifindex: 0,
            ipi_spec_dst: in_addr { s_addr: u32::from(to.at).to_be() },
            ipi_addr: in_addr { s_addr: 0 },
        };
        let send = || {
            sendmsg(
                self.socket.as_raw_fd(),
                &[IoSlice::new(datagram)],
                &[ControlMessage::Ipv4PacketInfo(&info)],
                MsgFlags::empty(),
                Some(&SockaddrIn::from(to.client)),
            )?;
            Ok(())
        };
        self.socket.async_io(Interest::WRITABLE, send).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_come_from_where_was_asked() {
        let server = AnsweringSocket::bind(0).await.expect("binds");
        let port = server.socket.local_addr().expect("bound").port();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
        let asked = Ipv4Addr::new(127, 0, 0, 7);
        client.send_to(b"who?", (asked, port)).await.expect("sends");
        let mut buffer = [0; 16];
        let (length, asker) = server.receive(&mut buffer).await.expect("receives");
        assert_eq!((&buffer[..length], asker.at), (&b"who?"[..], asked));
        server.answer(asker, b"me").await.expect("answers");
        let (length, from) = client.recv_from(&mut buffer).await.expect("receives");
        assert_eq!((&buffer[..length], from.ip()), (&b"me"[..], asked.into()));
    }
}
