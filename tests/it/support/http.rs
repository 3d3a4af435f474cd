//! A client of the relay's HTTP port that sends what it is told to, right or wrong.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{PATIENCE, Relay};

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks a relay for a page.
#[track_caller]
pub(crate) fn get(relay: &Relay, path: &str) -> Answer {
    ask(relay, path, "")
}

/// The same with more lines in the head.
#[track_caller]
pub(crate) fn ask(relay: &Relay, path: &str, lines: &str) -> Answer {
    let address = relay.address();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{lines}\r\n");
    ask_at(&address, request.as_bytes()).expect("an answer")
}

/// Sends a form, with more lines in the head.
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

/// Sends bytes and reads all that comes back; `None` where that is no answer.
pub(crate) fn ask_at(address: &str, request: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    // One that is closed early has been answered, or not.
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
