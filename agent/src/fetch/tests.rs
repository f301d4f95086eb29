use super::*;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// Serves the same few paths to everybody, counting requests.
async fn serve() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => request.push(byte),
                    Err(_) => break,
                }
            }
            counter.fetch_add(1, Ordering::SeqCst);
            let path = String::from_utf8(request).unwrap();
            let path = path.split(' ').nth(1).unwrap_or_default().to_string();
            let answer = answer(&path);
            // A client that has seen enough may be gone.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &answer).await;
        }
    });
    (address, asked)
}

fn answer(path: &str) -> Vec<u8> {
    let ok = |body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    match path {
        "/file" => ok(b"content"),
        "/app.tgz" => ok(&archive()),
        "/moved" => {
            b"HTTP/1.1 302 Found\r\nLocation: /file\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                .to_vec()
        }
        "/broken" => b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_vec(),
        "/huge" => b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\nx".to_vec(),
        _ => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
    }
}

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o755);
    builder.append_data(&mut header, "bin/run", &b"hello"[..]).unwrap();
    let tar = builder.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    gzip.write_all(&tar).unwrap();
    gzip.finish().unwrap()
}

struct Lab {
    dir: TempDir,
    fetcher: Fetcher,
}

impl Lab {
    fn new(allow_files: bool) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("sandbox")).unwrap();
        let fetcher = Fetcher::open(&dir.path().join("fetch"), allow_files).unwrap();
        Lab { dir, fetcher }
    }

    fn sandbox(&self) -> PathBuf {
        self.dir.path().join("sandbox")
    }

    async fn fetch(&self, wanted: Fetch) -> Result<(), String> {
        let fetched = self.fetcher.fetch(&[wanted], &self.sandbox(), &|_| {}).await;
        fetched.map_err(|error| crate::machine::chain(&error))
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.sandbox().join(name)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        std::fs::metadata(self.sandbox().join(name)).unwrap().permissions().mode() & 0o777
    }

    fn staged(&self) -> usize {
        std::fs::read_dir(self.dir.path().join("fetch/staging")).unwrap().count()
    }
}

fn wanted(uri: String) -> Fetch {
    Fetch { uri, extract: true, executable: false, cache: false, dest_path: None }
}

#[tokio::test]
async fn a_file_comes_under_its_name() {
    let (at, _) = serve().await;
    let lab = Lab::new(false);
    lab.fetch(wanted(format!("http://{at}/moved"))).await.unwrap();
    assert_eq!((lab.read("moved").as_str(), lab.mode("moved")), ("content", 0o644));
    let named = Fetch {
        executable: true,
        dest_path: Some("bin/tool".into()),
        ..wanted(format!("http://{at}/file"))
    };
    lab.fetch(named).await.unwrap();
    assert_eq!((lab.read("bin/tool").as_str(), lab.mode("bin/tool")), ("content", 0o755));
    assert_eq!(lab.staged(), 0);
}

#[tokio::test]
async fn archives_are_extracted_when_asked() {
    let (at, _) = serve().await;
    let lab = Lab::new(false);
    lab.fetch(wanted(format!("http://{at}/app.tgz"))).await.unwrap();
    assert_eq!((lab.read("bin/run").as_str(), lab.mode("bin/run")), ("hello", 0o755));
    assert!(lab.sandbox().join("app.tgz").exists());
    let lab = Lab::new(false);
    let kept = Fetch { extract: false, ..wanted(format!("http://{at}/app.tgz")) };
    lab.fetch(kept).await.unwrap();
    assert!(!lab.sandbox().join("bin").exists());
    assert_eq!(std::fs::read(lab.sandbox().join("app.tgz")).unwrap(), archive());
}

#[tokio::test]
async fn what_is_cached_is_asked_for_once() {
    let (at, asked) = serve().await;
    let lab = Lab::new(false);
    let cached = |path: &str| Fetch { cache: true, ..wanted(format!("http://{at}{path}")) };
    let second = Fetch { dest_path: Some("second".into()), ..cached("/file") };
    let (one, two) = tokio::join!(lab.fetch(cached("/file")), lab.fetch(second));
    assert_eq!((one, two), (Ok(()), Ok(())));
    // A task that writes into its file does not write into the cache.
    std::fs::write(lab.sandbox().join("file"), "changed").unwrap();
    lab.fetch(cached("/file")).await.unwrap();
    assert_eq!(lab.read("file"), "content");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    lab.fetch(cached("/app.tgz")).await.unwrap();
    assert!(!lab.sandbox().join("app.tgz").exists());
    assert_eq!((lab.read("bin/run").as_str(), lab.staged()), ("hello", 0));
}

#[tokio::test]
async fn what_cannot_be_had_says_why() {
    let (at, _) = serve().await;
    let lab = Lab::new(false);
    let elsewhere = "/etc/hostname";
    for (uri, part) in [
        (format!("http://{at}/absent"), "404"),
        (format!("http://{at}/broken"), "broke off"),
        (format!("http://{at}/huge"), "larger than"),
        (format!("http://{at}/"), "destPath"),
        ("hdfs://h/x".into(), "not supported"),
        (elsewhere.into(), "--allow-host-volumes"),
        (format!("file://{elsewhere}"), "--allow-host-volumes"),
    ] {
        let message = lab.fetch(wanted(uri.clone())).await.unwrap_err();
        assert!(message.contains(part) && message.contains(&uri), "{uri}: {message}");
    }
    let out = Fetch { dest_path: Some("../x".into()), ..wanted(format!("http://{at}/file")) };
    let message = lab.fetch(out).await.unwrap_err();
    assert!(message.contains("no path inside the sandbox"), "{message}");
    assert_eq!(lab.staged(), 0);
}

#[tokio::test]
async fn files_of_the_node_come_where_it_allows() {
    let lab = Lab::new(true);
    let file = lab.dir.path().join("tool.tgz");
    std::fs::write(&file, archive()).unwrap();
    lab.fetch(wanted(file.display().to_string())).await.unwrap();
    assert_eq!(lab.read("bin/run"), "hello");
    lab.fetch(wanted(format!("file://{}", file.display()))).await.unwrap();
    assert!(file.exists());
    let message = lab.fetch(wanted(lab.sandbox().display().to_string())).await.unwrap_err();
    assert!(message.contains("no regular file"), "{message}");
}

#[tokio::test]
async fn an_earlier_life_leaves_no_staged_files() {
    let lab = Lab::new(false);
    let staging = lab.dir.path().join("fetch/staging");
    std::fs::write(staging.join("half"), "x").unwrap();
    Fetcher::open(&lab.dir.path().join("fetch"), false).unwrap();
    assert_eq!(std::fs::read_dir(staging).unwrap().count(), 0);
}
