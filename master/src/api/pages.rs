//! What a person meets who opens the node in a browser: a page that names the API, and its paths.

use super::accept::{HTML, TEXT};
use super::reply::{self, Reply};
use http::{HeaderValue, StatusCode, header};

/// `/`: to the page, where Marathon has it.
pub(crate) fn root() -> Reply {
    let mut answer = reply::empty(StatusCode::FOUND);
    answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/ui/"));
    answer
}

pub(crate) fn page() -> Reply {
    reply::typed(StatusCode::OK, HTML, include_str!("page.html"))
}

pub(crate) fn help() -> Reply {
    reply::typed(StatusCode::OK, TEXT, include_str!("help.txt"))
}
