//! Asks the HTTP port of a relay that runs on this host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{CONNECTION, HOST};
use axum::http::{Request, StatusCode};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{Listen, defaults};

/// Time for the whole answer: it comes from memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer: far more than any of a relay's has.
const MAX_BYTES: usize = 1 << 20;
const NAME_IT: &str = "name the relay's address by --listen, DOORBELL_LISTEN or [http] listen";

/// A path of a relay, and what each of its answers has.
pub(crate) struct Probe(&'static str, &'static str);

impl Probe {
    pub(crate) const LIVE: Self = Self("/healthz", "alive\n");
    pub(crate) const READY: Self = Self("/readyz", ": ready: ");

    /// Asks the relay that binds `listen`, and returns what it answers if it is well.
    ///
    /// # Errors
    /// Why it is not, or why it cannot be asked.
    pub(crate) async fn ask(&self, listen: &Listen) -> Result<String, String> {
        let address = address(listen)?;
        let answer = timeout(PATIENCE, get(&address, self.0)).await;
        let (code, body) = answer
            .map_err(|_| {
                let seconds = PATIENCE.as_secs();
                format!("the process at {address} has not answered for {seconds} s: it hangs, or is no relay; {NAME_IT}, or restart it")
            })?
            .map_err(|error| format!("no relay answers at {address} ({error}): start it, or {NAME_IT}"))?;
        match code {
            StatusCode::OK if body.contains(self.1) => Ok(body),
            StatusCode::SERVICE_UNAVAILABLE => Err(body.trim_end().replace('\n', "; ")),
            code => Err(format!(
                "what answers {} at {address} with {code} is no relay: {NAME_IT}",
                self.0
            )),
        }
    }
}

/// Returns the address at which this host reaches a port that is bound so.
fn address(listen: &Listen) -> Result<String, String> {
    let text = match listen {
        Listen::Off => {
            return Err(format!(
                "the HTTP port is off here, so no relay can be asked: set [http] listen, or {NAME_IT}"
            ));
        }
        Listen::Default => defaults::LISTEN,
        Listen::At(text) => text,
    };
    if text.ends_with(":0") {
        return Err(format!(
            "{text} lets the system choose a port, which the relay logs at its start: {NAME_IT}"
        ));
    }
    // Every address of this host is one that can be bound, but none that can be reached.
    Ok(match text.parse::<SocketAddr>() {
        Ok(all) if all.ip().is_unspecified() => {
            let ip = match all.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            SocketAddr::new(ip, all.port()).to_string()
        }
        _ => text.to_owned(),
    })
}

async fn get(
    address: &str,
    path: &str,
) -> Result<(StatusCode, String), Box<dyn std::error::Error>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(HOST, address)
        .header(CONNECTION, "close")
        .body(Body::empty())?;
    let answer = async move {
        let response = sender.send_request(request).await?;
        let code = response.status();
        let body = to_bytes(Body::new(response.into_body()), MAX_BYTES).await?;
        Ok((code, String::from_utf8_lossy(&body).into_owned()))
    };
    let (answer, _) = tokio::join!(answer, connection);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bound_is_asked_where_this_host_reaches_it() {
        for (listen, asked) in [
            ("0.0.0.0:8686", "127.0.0.1:8686"),
            ("[::]:8686", "[::1]:8686"),
            ("10.0.0.7:80", "10.0.0.7:80"),
            ("relay.example:8686", "relay.example:8686"),
        ] {
            let listen = Listen::parse(listen).expect("an address");
            assert_eq!(address(&listen).as_deref(), Ok(asked));
        }
        assert_eq!(address(&Listen::Default).as_deref(), Ok(defaults::LISTEN));
    }
}
