//! The cluster port before anything is answered on it, so that a taken one is known first.

use super::endpoint::EndpointError;
use super::transport;
use std::net::{SocketAddr, UdpSocket};

/// A port that was found free, and is held.
#[derive(Debug)]
pub struct Port(pub(super) UdpSocket);

impl Port {
    /// Take a UDP port; nothing is answered on it yet.
    ///
    /// # Errors
    /// When it is taken.
    pub fn take(addr: SocketAddr) -> Result<Port, EndpointError> {
        transport::socket(addr).map(Port).map_err(|source| EndpointError::Bind { addr, source })
    }
}
