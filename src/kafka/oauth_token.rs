//! The token for OAUTHBEARER, read from a file that another program renews.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;
use serde::Deserialize;
use tracing::debug;

/// A token without an expiry is read again after about this time.
const UNTOLD: Duration = Duration::from_secs(300);

#[derive(Debug, Default, Deserialize)]
struct Claims {
    /// Seconds since 1970.
    exp: Option<f64>,
    sub: Option<String>,
}

/// Reads the current token from the file. librdkafka asks again after four fifths of the token's
/// lifetime, and 10 s after a failure.
pub(super) fn read(path: Option<&Path>) -> Result<OAuthToken, Box<dyn Error>> {
    let path = path.ok_or("no token is configured: set `token_file` in [kafka]")?;
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("the token cannot be read from {shown}: {error}"))?;
    let token = text.trim();
    let claims = claims(token).unwrap_or_default();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let end = claims.exp.map_or(now + UNTOLD, |seconds| {
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO)
    });
    if end <= now {
        return Err(format!(
            "the token in {shown} expired {} s ago: renew it",
            (now - end).as_secs()
        )
        .into());
    }
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{shown} does not hold a token").into());
    }
    let left = Duration::from_secs((end - now).as_secs());
    debug!(
        "token for Kafka read, good for {}",
        humantime::format_duration(left)
    );
    Ok(OAuthToken {
        token: token.to_owned(),
        principal_name: claims.sub.unwrap_or_else(|| "doorbell".into()),
        lifetime_ms: i64::try_from(end.as_millis())?,
    })
}

/// Decodes the second part of a JWT. A token of another kind has none.
fn claims(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    let json = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content: &str) -> Result<OAuthToken, String> {
        let file = tempfile::NamedTempFile::new().expect("a folder for temporary files");
        std::fs::write(file.path(), content).expect("room for a small file");
        read(Some(file.path())).map_err(|error| error.to_string())
    }

    fn jwt(claims: &str) -> String {
        format!("e30.{}.", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_says_whose_it_is_and_when_it_ends() {
        let token = of(&(jwt(r#"{"sub":"relay","exp":4102444800.5}"#) + "\n")).expect("a token");
        assert_eq!(token.principal_name, "relay");
        assert_eq!(token.lifetime_ms, 4_102_444_800_500);
        assert!(!token.token.ends_with('\n'));
    }

    #[test]
    fn an_opaque_token_is_read_anew_after_a_while() {
        let token = of("opaque").expect("a token");
        assert_eq!(token.principal_name, "doorbell");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let left =
            i128::from(token.lifetime_ms) - now.expect("later than 1970").as_millis() as i128;
        assert!((1..=300_000).contains(&left), "{left}");
    }

    #[test]
    fn faults_say_nothing_of_the_token() {
        for (content, part) in [
            ("", "does not hold a token"),
            ("HUNTER2 x", "does not hold a token"),
            (jwt(r#"{"exp":1,"sub":"HUNTER2"}"#).as_str(), "expired"),
        ] {
            let fault = of(content).err().expect("a fault");
            assert!(
                fault.contains(part) && !fault.contains("HUNTER2"),
                "{fault}"
            );
        }
        assert!(read(Some(Path::new("/nowhere"))).is_err());
        assert!(read(None).is_err());
    }
}
