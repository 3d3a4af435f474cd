//! Durations, sizes, counts and texts as users write them, with their bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use secrecy::SecretString;

/// Reads a duration such as `500ms`, `30s` or `2m`, within `bounds`.
pub(crate) fn duration(text: &str, bounds: &RangeInclusive<Duration>) -> Result<Duration, String> {
    const FORM: &str = "must be a number and a unit, such as 500ms, 30s or 2m";
    let range = || {
        let [low, high] =
            [bounds.start(), bounds.end()].map(|bound| humantime::format_duration(*bound));
        format!("must be from {low} to {high}")
    };
    match humantime::parse_duration(text) {
        Ok(duration) if bounds.contains(&duration) => Ok(duration),
        Ok(_) | Err(humantime::DurationError::NumberOverflow) => Err(range()),
        Err(_) if is_off(text) => Err(format!(
            "cannot be off: it {FORM}, up to {}",
            humantime::format_duration(*bounds.end())
        )),
        Err(_) => Err(FORM.into()),
    }
}

/// Reads a number of bytes such as `65536`, `512KiB` or `8MiB`, within `bounds`.
pub(crate) fn size(text: &str, bounds: &RangeInclusive<usize>) -> Result<usize, String> {
    let text = text.trim();
    let unit = text
        .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
        .trim_start();
    // `8M` means 8,000,000 to some programs and 8,388,608 to others
    let ambiguous = unit.len() == 1 && !unit.eq_ignore_ascii_case("b");
    let bytes = text.parse::<ByteSize>().ok().filter(|_| !ambiguous);
    let Some(ByteSize(bytes)) = bytes else {
        return Err("must be a number of bytes, or a number with one of the units kB, MB, GB (powers of 1000) or \
                    KiB, MiB, GiB (powers of 1024), such as 8MiB"
            .into());
    };
    let [low, high] = [bounds.start(), bounds.end()].map(|bound| ByteSize(*bound as u64));
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| bounds.contains(bytes))
        .ok_or_else(|| format!("must be from {low} to {high}"))
}

pub(crate) fn count(text: &str, bounds: &RangeInclusive<usize>) -> Result<usize, String> {
    let number = text.trim().parse().ok();
    number
        .filter(|number| bounds.contains(number))
        .ok_or_else(|| {
            format!(
                "must be a whole number from {} to {}",
                bounds.start(),
                bounds.end()
            )
        })
}

pub(crate) fn optional_count(
    text: &str,
    bounds: &RangeInclusive<usize>,
) -> Result<Option<usize>, String> {
    match is_off(text) {
        true => Ok(None),
        false => count(text, bounds)
            .map(Some)
            .map_err(|error| format!("{error}, or off")),
    }
}

fn is_off(text: &str) -> bool {
    text.trim().eq_ignore_ascii_case("off")
}

/// Checks a token: hard to guess, and short and plain enough for a header.
pub(crate) fn token(text: &str) -> Result<SecretString, String> {
    match (16..=1_024).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.into()),
        false => Err(
            "must have 16 to 1024 characters: letters, digits and signs without blanks; \
                      `openssl rand -hex 32` makes one"
                .into(),
        ),
    }
}

/// Checks the value of a label.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    match (1..=100).contains(&text.len()) && !text.contains(char::is_control) {
        true => Ok(text.into()),
        false => Err("must be a text of 1 to 100 bytes on one line".into()),
    }
}

/// Checks a `transactional.id` by Kafka's rules.
pub(crate) fn transactional_id(text: &str) -> Result<String, String> {
    let is_legal = !text.trim().is_empty() && !text.contains(char::is_control);
    match is_legal && text.len() <= 249 {
        true => Ok(text.into()),
        false => Err("must be a text of 1 to 249 bytes without control characters".into()),
    }
}
