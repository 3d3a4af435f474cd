//! A client of the relay's HTTP port that sends what it is given, valid or not.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{PATIENCE, Relay};

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Requests a page of a relay.
#[track_caller]
pub(crate) fn get(relay: &Relay, path: &str) -> Answer {
    ask(relay, path, "")
}

/// The metrics of a relay, without the label of the database, which every test has its own of.
#[track_caller]
pub(crate) fn metrics(relay: &Relay) -> String {
    let answer = get(relay, "/metrics");
    assert_eq!(answer.code, 200, "{answer:?}");
    let line = |line: &str| {
        let (before, rest) = line.split_once("database=\"").unwrap_or((line, ""));
        let rest = rest.split_once('"').map_or("", |(_, rest)| rest);
        format!("{before}{}\n", rest.strip_prefix(',').unwrap_or(rest))
    };
    answer.body.lines().map(line).collect()
}

/// Requests a page with more header lines.
#[track_caller]
pub(crate) fn ask(relay: &Relay, path: &str, lines: &str) -> Answer {
    let address = relay.address();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{lines}\r\n");
    ask_at(&address, request.as_bytes()).expect("an answer")
}

/// Sends a form, with more header lines.
#[track_caller]
pub(crate) fn post(relay: &Relay, path: &str, lines: &str, form: &str) -> Answer {
    let address = relay.address();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n{lines}\r\n{form}",
        form.len()
    );
    ask_at(&address, request.as_bytes()).expect("an answer")
}

/// Sends bytes and reads the whole answer; `None` where that is no answer.
pub(crate) fn ask_at(address: &str, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    // A connection that is closed early may have been answered or not.
    stream.write_all(request).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    let text = String::from_utf8(answer).expect("text");
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer {
        code,
        head: head.to_lowercase(),
        body: body.to_owned(),
    })
}
