//! An HTTP answer as curl shows it.

use serde_json::Value;

/// Status, headers (names lower-case) and body of one answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// Read the output of `curl -i`, skipping interim answers (100 Continue).
    pub fn parse(text: &str) -> Self {
        let mut rest = text;
        loop {
            let (head, body) = rest.split_once("\r\n\r\n").unwrap_or((rest, ""));
            let mut lines = head.lines();
            let first = lines.next().unwrap_or_default();
            let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
            let status: u16 = status.unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
            if status == 100 {
                rest = body;
                continue;
            }
            let headers = lines.filter_map(|line| line.split_once(": "));
            let headers = headers.map(|(k, v)| (k.to_lowercase(), v.to_string())).collect();
            return Self { status, headers, body: body.to_string() };
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; panics with the answer when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the body of {self:?}"))
    }

    /// This answer, if its status is `status`; panics with it otherwise.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}
