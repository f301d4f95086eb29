use super::*;
use crate::events::Wanted;
use bramble_core::model::State;
use bramble_protocol::rest::event::EventBody;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[test]
fn only_what_can_be_posted_to_is_a_callback() {
    let good = |address: &str, authority: &str, path: &str| {
        Ok(CallbackUrl { address: address.into(), authority: authority.into(), path: path.into() })
    };
    let malformed = |text: &str| Err(CallbackUrlError::Malformed(text.into()));
    let long = format!("http://x/{}", "a".repeat(URL_BYTES_MAX));
    let rows: Vec<(&str, Result<CallbackUrl, CallbackUrlError>)> = vec![
        ("http://x", good("x:80", "x", "/")),
        ("http://x:9000/hook?a=b", good("x:9000", "x:9000", "/hook?a=b")),
        ("http://[::1]:9000/", good("[::1]:9000", "[::1]:9000", "/")),
        ("", Err(CallbackUrlError::Missing)),
        ("https://x/", Err(CallbackUrlError::NotHttp("https://x/".into()))),
        ("ftp://x/", Err(CallbackUrlError::NotHttp("ftp://x/".into()))),
        ("http://u:p@x/", Err(CallbackUrlError::Credentials("http://u:p@x/".into()))),
        ("x:9000/hook", malformed("x:9000/hook")),
        ("/hook", malformed("/hook")),
        ("http://", malformed("http://")),
        ("http://x:0/", malformed("http://x:0/")),
        ("http://x:99999/", malformed("http://x:99999/")),
        ("http://a b/", malformed("http://a b/")),
        (&long, Err(CallbackUrlError::TooLong { max: URL_BYTES_MAX })),
    ];
    for (text, want) in rows {
        assert_eq!(CallbackUrl::parse(text), want, "{text}");
    }
}

/// Take one request, answer it with `status`, give its body.
async fn take(listener: &TcpListener, status: &str) -> (String, String) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    let (head, body) = loop {
        bytes.push(stream.read_u8().await.unwrap());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_string)
        });
        if body.len() == length.unwrap().parse::<usize>().unwrap() {
            break (head.to_string(), body.to_string());
        }
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
    (head, body)
}

fn note(app: &str) -> EventBody {
    EventBody::AppTerminated { app_id: app.into() }
}

struct Bench {
    hub: Arc<Hub>,
    store: Arc<Store>,
    stop: CancellationToken,
    listener: TcpListener,
    url: String,
}

impl Bench {
    async fn start() -> Bench {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let store = Arc::new(Store::new(State::default()));
        let hub = Arc::new(Hub::new(store.clock().clone()));
        let stop = CancellationToken::new();
        tokio::spawn(deliver(hub.clone(), store.clone(), stop.clone()));
        Bench { hub, store, stop, listener, url }
    }

    fn subscribe(&self, url: &str) {
        self.store.write(|state| (state.callbacks.insert(url.to_string()), Vec::new()));
    }

    /// Wait until that many callbacks listen.
    async fn listening(&self, count: usize) {
        while self.hub.listeners() != count {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn events_are_posted_in_order_whatever_the_answer() {
    let bench = Bench::start().await;
    bench.subscribe(&bench.url);
    bench.listening(1).await;
    bench.hub.publish(note("/1"));
    bench.hub.publish(note("/2"));
    let (head, body) = take(&bench.listener, "500 No").await;
    assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
    assert!(body.starts_with(r#"{"eventType":"app_terminated_event","appId":"/1","#), "{body}");
    let (_, body) = take(&bench.listener, "200 OK").await;
    assert!(body.contains(r#""appId":"/2""#), "{body}");
    // Gone from the state, it is no longer posted to.
    bench.store.write(|state| (state.callbacks.clear(), Vec::new()));
    bench.listening(0).await;
    bench.stop.cancel();
}

#[tokio::test]
async fn a_dead_receiver_is_tried_again_and_holds_up_nobody() {
    let bench = Bench::start().await;
    // Bound and freed: nobody listens there.
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = dead.local_addr().unwrap();
    drop(dead);
    bench.subscribe(&format!("http://{address}/"));
    bench.subscribe(&bench.url);
    bench.listening(2).await;
    bench.hub.publish(note("/1"));
    let (_, body) = take(&bench.listener, "200 OK").await;
    assert!(body.contains(r#""appId":"/1""#), "{body}");
    // The dead one comes to life within its attempts, and hears what it missed.
    let revived = TcpListener::bind(address).await.unwrap();
    tokio::time::pause();
    let (_, body) = take(&revived, "200 OK").await;
    assert!(body.contains(r#""appId":"/1""#), "{body}");
    bench.stop.cancel();
}

#[tokio::test]
async fn callbacks_do_not_count_as_streams() {
    let bench = Bench::start().await;
    bench.subscribe(&bench.url);
    bench.listening(1).await;
    let cut = CancellationToken::new();
    assert!(bench.hub.attach("a".into(), Wanted::default(), cut).is_some());
    bench.stop.cancel();
}
