//! Figures and times as the page writes them.

use std::time::{Duration, SystemTime};

/// Formats a whole number, or a small one with one decimal.
pub(crate) fn figure(value: f64) -> String {
    if value == 0.0 || value >= 10.0 {
        grouped(value.round() as u64)
    } else {
        format!("{value:.1}")
    }
}

/// Separates thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Formats seconds since 1970 as RFC 3339 has them.
pub(crate) fn clock(at: f64) -> String {
    let since = Duration::try_from_secs_f64(at.max(0.0)).unwrap_or_default();
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since).to_string()
}

/// Formats seconds since 1970 as a time of day in UTC.
pub(crate) fn clock_of_day(at: f64) -> String {
    let clock = clock(at);
    let time = clock.split_once('T').map_or("", |(_, time)| time);
    time.trim_end_matches('Z').to_owned()
}
