//! One probe of a TCP or HTTP target.
//!
//! HTTP is written by hand: a check needs the first status line and nothing else, and hyper's
//! client hides informational answers, which Marathon's checks count.

use super::answer;
use super::target::HttpTarget;
use bramble_core::health::Probed;
use bramble_core::model::HttpAnswer;
use rustls::DigitallySignedStruct;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Bytes of an answer that are read: more than its status, so that a polite server sees no reset
/// connection.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// What a probe found, and in words what was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub probed: Probed,
    pub cause: Option<String>,
}

impl Outcome {
    pub(super) fn success() -> Self {
        Self { probed: Probed::Success, cause: None }
    }

    pub(super) fn failure(cause: impl Into<String>) -> Self {
        Self { probed: Probed::Failure, cause: Some(cause.into()) }
    }
}

/// Whether something accepts connections.
pub(super) async fn tcp(address: SocketAddr) -> Outcome {
    match TcpStream::connect(address).await {
        Ok(_) => Outcome::success(),
        Err(error) => Outcome::failure(format!("connecting to {address}: {error}")),
    }
}

/// Whether a GET is answered with a status of 200 to 399. Redirects are not followed.
pub(super) async fn http(target: &HttpTarget, ignore_1xx: bool) -> Outcome {
    let answer = ask(target).await;
    match answer.as_ref().map(|bytes| answer::first_status(bytes)) {
        Ok(Some(200..=399)) => Outcome::success(),
        Ok(Some(100..=199)) if ignore_1xx => Outcome { probed: Probed::Nothing, cause: None },
        Ok(Some(status)) => Outcome::failure(format!("the answer has HTTP status {status}")),
        Ok(None) => Outcome::failure("the answer is not HTTP"),
        Err(cause) => Outcome::failure(cause),
    }
}

/// Ask, and read the answer with its status, type and body; `None` without one.
pub(super) async fn answered(target: &HttpTarget) -> Option<HttpAnswer> {
    answer::parse(&ask(target).await.ok()?)
}

/// The bytes of an answer as far as they came, in words what was in the way of any.
async fn ask(target: &HttpTarget) -> Result<Vec<u8>, String> {
    let address = target.address;
    let connected = TcpStream::connect(address).await;
    let stream = connected.map_err(|error| format!("connecting to {address}: {error}"))?;
    if !target.tls {
        return exchange(stream, target).await;
    }
    let config = any_certificate().ok_or("TLS cannot be set up")?;
    let name = ServerName::IpAddress(address.ip().into());
    let secured = TlsConnector::from(config).connect(name, stream).await;
    exchange(secured.map_err(|error| format!("TLS with {address}: {error}"))?, target).await
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    target: &HttpTarget,
) -> Result<Vec<u8>, String> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: bramble\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        target.path, target.address
    );
    let broken = |error: std::io::Error| format!("asking {}: {error}", target.address);
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut bytes = Vec::new();
    // What came before a connection broke counts: the status is in its first bytes.
    let ended = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await;
    match ended {
        Err(error) if bytes.is_empty() => Err(broken(error)),
        _ => Ok(bytes),
    }
}

/// TLS that believes anybody: Marathon's checks ask whether a task answers, not who it is.
fn any_certificate() -> Option<Arc<rustls::ClientConfig>> {
    static CONFIG: OnceLock<Option<Arc<rustls::ClientConfig>>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let provider = Arc::new(ring::default_provider());
            let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .ok()?;
            let verifier = Arc::new(AnyCertificate(provider));
            let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
            Some(Arc::new(builder.with_no_client_auth()))
        })
        .clone()
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Serves one connection with `answer` (nothing when empty) and gives what was asked.
    async fn serve_once(answer: &'static str) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(asked).unwrap()
        });
        (address, served)
    }

    #[tokio::test]
    async fn http_answers_are_judged_by_their_first_status() {
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, Probed::Success),
            ("HTTP/1.0 204 No Content\r\n\r\n", false, Probed::Success),
            ("HTTP/1.1 302 Found\r\nLocation: http://nowhere.invalid/\r\n\r\n", false, {
                Probed::Success
            }),
            ("HTTP/1.1 404 Not Found\r\n\r\n", false, Probed::Failure),
            ("HTTP/1.1 500 Oops\r\n\r\n", true, Probed::Failure),
            ("HTTP/1.1 102 Processing\r\n\r\n", false, Probed::Failure),
            ("HTTP/1.1 102 Processing\r\n\r\n", true, Probed::Nothing),
            ("SSH-2.0-OpenSSH_9.2\r\n", false, Probed::Failure),
            ("HTTP/1.1 20", false, Probed::Failure),
            ("", false, Probed::Failure),
        ];
        for (answer, ignore_1xx, expected) in cases {
            let (address, served) = serve_once(answer).await;
            let target = HttpTarget { address, tls: false, path: "/up".into() };
            assert_eq!(http(&target, ignore_1xx).await.probed, expected, "{answer:?}");
            let asked = served.await.unwrap();
            assert!(asked.starts_with("GET /up HTTP/1.1\r\n"), "{asked}");
            assert!(asked.contains(&format!("Host: {address}\r\n")), "{asked}");
        }
    }

    #[tokio::test]
    async fn nobody_listening_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(tcp(address).await.probed, Probed::Success);
        drop(listener);
        assert_eq!(tcp(address).await.probed, Probed::Failure);
        for tls in [false, true] {
            let target = HttpTarget { address, tls, path: "/".into() };
            assert_eq!(http(&target, false).await.probed, Probed::Failure);
        }
    }

    #[tokio::test]
    async fn https_to_a_plain_server_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        });
        let target = HttpTarget { address, tls: true, path: "/".into() };
        assert_eq!(http(&target, false).await.probed, Probed::Failure);
        served.await.unwrap();
    }
}
