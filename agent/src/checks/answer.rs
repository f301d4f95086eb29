//! An HTTP answer from its bytes: status, type and the beginning of the body.
//!
//! Owns reading what a server said, however little of it came. Never talks to one.

use bramble_core::model::HttpAnswer;

/// Bytes of a body that are kept: it travels in a report and is stored.
const BODY_BYTES_MAX: usize = 2048;
const CONTENT_TYPE_BYTES_MAX: usize = 256;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// The status of the first head, an informational one too.
pub(super) fn first_status(bytes: &[u8]) -> Option<u16> {
    let line = bytes.get(..b"HTTP/1.1 200".len())?;
    let text = std::str::from_utf8(line).ok()?;
    let (version, code) = text.split_once(' ')?;
    if !version.starts_with("HTTP/1.") || code.len() != 3 {
        return None;
    }
    code.parse().ok()
}

/// The answer proper, after informational ones.
pub(super) fn parse(bytes: &[u8]) -> Option<HttpAnswer> {
    let status = first_status(bytes)?;
    let end = find(bytes, HEAD_END).unwrap_or(bytes.len());
    let body = bytes.get(end + HEAD_END.len()..).unwrap_or_default();
    if (100..200).contains(&status) {
        return parse(body);
    }
    let head = String::from_utf8_lossy(&bytes[..end]);
    let header = |wanted: &str| {
        head.lines().skip(1).filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
            name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_string())
        })
    };
    let chunked = header("transfer-encoding").is_some_and(|v| v.to_lowercase().contains("chunked"));
    let body = if chunked { unchunked(body) } else { body.to_vec() };
    Some(HttpAnswer {
        status,
        content_type: cut(header("content-type").unwrap_or_default(), CONTENT_TYPE_BYTES_MAX),
        body: cut(String::from_utf8_lossy(&body).into_owned(), BODY_BYTES_MAX),
    })
}

/// The content of chunks, as far as they are whole.
fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(end) = find(bytes, b"\r\n") {
        let line = String::from_utf8_lossy(&bytes[..end]);
        let size = line.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(size, 16) else { break };
        let rest = &bytes[end + 2..];
        content.extend_from_slice(&rest[..size.min(rest.len())]);
        if size == 0 || content.len() > BODY_BYTES_MAX {
            break;
        }
        bytes = rest.get(size.saturating_add(2)..).unwrap_or_default();
    }
    content
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn cut(mut text: String, bytes_max: usize) -> String {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or_default());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_far_as_they_came() {
        let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "ä".repeat(BODY_BYTES_MAX));
        let cases = [
            (
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhi",
                Some((200, "text/plain", "hi")),
            ),
            ("HTTP/1.0 503 No", Some((503, "", ""))),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n", Some((204, "", ""))),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
                Some((200, "", "abcde")),
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", Some((200, "", "ab"))),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab", {
                Some((200, "", "ab"))
            }),
            ("SSH-2.0-OpenSSH_9.2\r\n", None),
            ("HTTP/1.1 20", None),
            ("", None),
        ];
        for (bytes, expected) in cases {
            let found = parse(bytes.as_bytes());
            let found =
                found.as_ref().map(|a| (a.status, a.content_type.as_str(), a.body.as_str()));
            assert_eq!(found, expected, "{bytes:?}");
        }
        assert_eq!(parse(long.as_bytes()).unwrap().body.len(), BODY_BYTES_MAX);
    }
}
