//! The API's client: HTTP/1.1 over the node's own socket, or over TCP to any node.

mod error;

pub use error::{ClientError, EXIT_REFUSED};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokio::net::{TcpStream, UnixStream};

/// A body that is sent: whole, or streamed from a file.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// Where the API is.
#[derive(Clone, Debug)]
pub enum Target {
    /// The node's own socket: local administration, always open to root.
    Socket(PathBuf),
    /// `host:port` of any node.
    Tcp(String),
}

impl Target {
    /// `url` if one was given (by flag or `BRAMBLE_URL`), else the node's own socket where it
    /// exists, else the default address.
    pub fn choose(url: Option<&str>, run_dir: &Path) -> Result<Self, ClientError> {
        if let Some(url) = url {
            return Self::from_url(url);
        }
        let socket = run_dir.join("bramble.sock");
        if socket.exists() {
            return Ok(Target::Socket(socket));
        }
        Ok(Target::Tcp("127.0.0.1:8080".into()))
    }

    fn from_url(url: &str) -> Result<Self, ClientError> {
        let bad = |reason: &str| ClientError::Url { url: url.into(), reason: reason.into() };
        let text = if url.contains("://") { url.to_string() } else { format!("http://{url}") };
        let uri: Uri = text.parse().map_err(|_| bad("it is no URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(bad("only http is spoken; use http://HOST:PORT"));
        }
        let host = uri.host().ok_or_else(|| bad("it names no host"))?;
        Ok(Target::Tcp(format!("{host}:{}", uri.port_u16().unwrap_or(8080))))
    }

    /// What to call it in messages.
    pub fn name(&self) -> String {
        match self {
            Target::Socket(path) => path.display().to_string(),
            Target::Tcp(address) => format!("http://{address}"),
        }
    }

    fn host(&self) -> &str {
        match self {
            Target::Socket(_) => "localhost",
            Target::Tcp(address) => address,
        }
    }
}

/// Makes one connection per request: verbs are short, and a node may restart between two.
#[derive(Clone, Debug)]
pub struct Client {
    target: Target,
}

impl Client {
    pub fn new(target: Target) -> Self {
        Self { target }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    async fn connect(&self) -> Result<SendRequest<Body>, ClientError> {
        let unreachable = |source| ClientError::Unreachable { target: self.target.name(), source };
        match &self.target {
            Target::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(unreachable)?;
                self.handshake(TokioIo::new(stream)).await
            }
            Target::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                self.handshake(TokioIo::new(stream)).await
            }
        }
    }

    async fn handshake<I>(&self, io: I) -> Result<SendRequest<Body>, ClientError>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(io).await.map_err(ClientError::Http)?;
        tokio::spawn(async move {
            // Its errors reach the caller through the response.
            let _ = connection.with_upgrades().await;
        });
        Ok(sender)
    }

    /// Send a request with extra headers; gives the answer as it starts.
    ///
    /// # Errors
    /// The API cannot be reached or breaks off. A refusal is an answer, not an error.
    pub async fn open(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut sender = self.connect().await?;
        let mut request =
            Request::builder().method(method).uri(path).header("Host", self.target.host());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(ClientError::Request)?;
        let answer = sender.send_request(request);
        // As long as it lives, a request that meets the end of its connection may be waited for in
        // vain (hyper 1.12).
        drop(sender);
        answer.await.map_err(ClientError::Http)
    }

    /// Send JSON (or nothing) and read a JSON answer.
    ///
    /// # Errors
    /// As [`Client::open`], or the API refused: its status and message.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Value, ClientError> {
        self.exchange(method, path, body.unwrap_or_default()).await.map(|(_, value)| value)
    }

    /// Send a body of any kind and read a JSON answer.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<Value, ClientError> {
        self.whole_answer(method, path, kind, body).await.map(|(_, value)| value)
    }

    /// Send JSON and read a JSON answer with its headers.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: &[u8],
    ) -> Result<(HeaderMap, Value), ClientError> {
        self.whole_answer(method, path, "application/json", body).await
    }

    async fn whole_answer(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<(HeaderMap, Value), ClientError> {
        let headers = [("Content-Type", kind), ("Accept", "application/json")];
        let answer = self.open(method, path, &headers, whole(body)).await?;
        let (status, head) = (answer.status(), answer.headers().clone());
        let bytes = answer.into_body().collect().await.map_err(ClientError::Http)?.to_bytes();
        let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() {
            Ok((head, value))
        } else {
            Err(ClientError::refused(status, value, &bytes))
        }
    }

    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.call(Method::GET, path, None).await
    }
}

/// A body that is in memory.
pub fn whole(bytes: &[u8]) -> Body {
    Full::new(Bytes::copy_from_slice(bytes)).map_err(|never| match never {}).boxed()
}

/// Read a whole refusal of a streaming answer.
pub async fn refusal(answer: Response<Incoming>) -> ClientError {
    let status: StatusCode = answer.status();
    match answer.into_body().collect().await {
        Ok(body) => {
            let bytes = body.to_bytes();
            let value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            ClientError::refused(status, value, &bytes)
        }
        Err(error) => ClientError::Http(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_or_explained() {
        for (url, expected) in [
            ("http://pi:8080", Some("pi:8080")),
            ("pi", Some("pi:8080")),
            ("http://10.0.0.1:80/", Some("10.0.0.1:80")),
            ("https://pi", None),
            ("http://", None),
        ] {
            let found = Target::from_url(url);
            match (found, expected) {
                (Ok(Target::Tcp(address)), Some(expected)) => assert_eq!(address, expected),
                (Err(error), None) => assert!(error.to_string().contains(url), "{error}"),
                (found, _) => panic!("{url}: {found:?}"),
            }
        }
    }
}
