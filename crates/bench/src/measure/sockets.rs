//! Bytes over the TCP connections of a process, as `ss` counts them.

use std::collections::HashMap;
use std::process::Command;

use serde::Serialize;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Bytes {
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// The bytes so far of each connection, by its two ends.
#[derive(Debug)]
pub(super) struct Sockets(HashMap<String, Bytes>);

impl Sockets {
    /// `None` where there is no `ss`, or no TCP.
    pub(super) fn of(process: &str) -> Option<Self> {
        let flags = [
            "--tcp",
            "--info",
            "--numeric",
            "--processes",
            "--no-header",
            "--oneline",
        ];
        let output = Command::new("ss").args(flags).output().ok()?;
        let found = Self::parse(&String::from_utf8_lossy(&output.stdout), process);
        (output.status.success() && !found.0.is_empty()).then_some(found)
    }

    /// `ss` writes a line for a connection: its ends and its process, then what it counted.
    fn parse(text: &str, process: &str) -> Self {
        let owner = format!("pid={process},");
        let ours = text.lines().filter(|line| line.contains(&owner));
        Self(HashMap::from_iter(ours.map(|line| {
            let words = line.split_whitespace();
            let figure = |name| {
                let value = words.clone().find_map(|word| word.strip_prefix(name));
                value.and_then(|value| value.parse().ok()).unwrap_or(0)
            };
            let bytes = Bytes {
                sent: figure("bytes_sent:"),
                received: figure("bytes_received:"),
            };
            let ends: Vec<&str> = words.clone().skip(3).take(2).collect();
            (ends.join(" "), bytes)
        })))
    }

    /// What went over them since `before`.
    pub(super) fn since(&self, before: &Self) -> Bytes {
        let mut sum = Bytes::default();
        for (ends, now) in &self.0 {
            let then = before.0.get(ends).copied().unwrap_or_default();
            sum.sent += now.sent.saturating_sub(then.sent);
            sum.received += now.received.saturating_sub(then.received);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SS: &str = "ESTAB 0 0 127.0.0.1:5000 127.0.0.1:5432 users:((\"doorbell\",pid=7,fd=9)) \
        cubic wscale:7,7 bytes_sent:100 bytes_acked:100 bytes_received:50 segs_out:2\n\
        ESTAB 0 0 127.0.0.1:5001 127.0.0.1:9092 users:((\"doorbell\",pid=7,fd=10)) \
        cubic bytes_sent:9 bytes_received:8\n\
        ESTAB 0 0 127.0.0.1:5002 127.0.0.1:9092 users:((\"other\",pid=77,fd=10)) \
        cubic bytes_sent:1000 bytes_received:1000\n";

    #[test]
    fn bytes_are_those_of_the_process_since_the_first_look() {
        let before = Sockets::parse(SS, "7");
        assert_eq!(before.0.len(), 2);
        let later = SS.replace("bytes_sent:100 ", "bytes_sent:160 ");
        let after = Sockets::parse(&later.replace("5001", "5009"), "7");
        // 60 more on the first connection, and all of a new one
        let expected = Bytes {
            sent: 69,
            received: 8,
        };
        assert_eq!(after.since(&before), expected);
    }
}
