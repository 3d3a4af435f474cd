//! Durations, sizes and counts as people write them, with their bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;

/// A duration such as `500ms`, `30s` or `2m`, within `bounds`.
pub(super) fn duration(text: &str, bounds: RangeInclusive<Duration>) -> Result<Duration, String> {
    let range = || {
        let [low, high] =
            [bounds.start(), bounds.end()].map(|bound| humantime::format_duration(*bound));
        format!("must be from {low} to {high}")
    };
    match humantime::parse_duration(text) {
        Ok(duration) if bounds.contains(&duration) => Ok(duration),
        Ok(_) | Err(humantime::DurationError::NumberOverflow) => Err(range()),
        Err(_) => Err("must be a number and a unit, such as 500ms, 30s or 2m".into()),
    }
}

/// A number of bytes such as `65536`, `512KiB` or `8MiB`, within `bounds`.
pub(super) fn size(text: &str, bounds: RangeInclusive<usize>) -> Result<usize, String> {
    let text = text.trim();
    let unit = text
        .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
        .trim_start();
    // to some `8M` is 8,000,000 and to others 8,388,608: a limit should not depend on whom one asks
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

/// A whole number within `bounds`.
pub(super) fn count(text: &str, bounds: RangeInclusive<usize>) -> Result<usize, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn durations() {
        let bounds = || Duration::from_millis(100)..=3600 * SECOND;
        for (text, expected) in [
            ("30s", 30 * SECOND),
            ("100ms", SECOND / 10),
            ("2m", 120 * SECOND),
            ("1h", 3600 * SECOND),
            ("1m 30s", 90 * SECOND),
        ] {
            assert_eq!(duration(text, bounds()), Ok(expected), "{text}");
        }
        for text in ["", "60", "s", "-1s", "off", "1 fortnight", "1s!", "١s"] {
            let fault = duration(text, bounds()).expect_err(text);
            assert!(
                fault.contains("such as 500ms, 30s or 2m"),
                "{text}: {fault}"
            );
        }
        // a capital M is a month to humantime: the upper bound catches it
        for text in [
            "0s",
            "99ms",
            "61m",
            "30M",
            "99999999999999999999s",
            "999999999999999999y",
        ] {
            assert_eq!(
                duration(text, bounds()),
                Err("must be from 100ms to 1h".into()),
                "{text}"
            );
        }
    }

    #[test]
    fn sizes() {
        let bounds = || 65_536..=1 << 30;
        for (text, expected) in [
            ("65536", 65_536),
            ("65536B", 65_536),
            ("64KiB", 65_536),
            ("64 KiB", 65_536),
            (" 8MiB ", 8 << 20),
            ("8mib", 8 << 20),
            ("8MB", 8_000_000),
            ("1.5MiB", 3 << 19),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(size(text, bounds()), Ok(expected), "{text}");
        }
        for text in [
            "", "8M", "8 m", "64k", "1G", "MiB", "-1", "8XiB", "1.2.3MiB", "eight", "8MiBs", "é",
        ] {
            let fault = size(text, bounds()).expect_err(text);
            assert!(fault.contains("such as 8MiB"), "{text}: {fault}");
        }
        for text in ["0", "65535", "1025MiB", "99EiB", "18446744073709551615"] {
            assert_eq!(
                size(text, bounds()),
                Err("must be from 64.0 KiB to 1.0 GiB".into()),
                "{text}"
            );
        }
    }

    #[test]
    fn counts() {
        assert_eq!(count("1", 1..=10), Ok(1));
        assert_eq!(count(" 10 ", 1..=10), Ok(10));
        for text in ["", "0", "11", "-1", "1.5", "ten", "99999999999999999999999"] {
            assert_eq!(
                count(text, 1..=10),
                Err("must be a whole number from 1 to 10".into()),
                "{text}"
            );
        }
    }
}
