//! The trace that a row carries in its headers, in the format of W3C Trace Context.

use std::borrow::Cow;
use std::str::FromStr;

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use serde::Deserialize;

#[derive(Deserialize)]
struct Headers<'a> {
    #[serde(borrow)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tracestate: Option<Cow<'a, str>>,
}

/// The sampled context in the headers of a row; without sampling there is no trace to link to. A
/// malformed context counts as none, and still reaches the record unchanged.
pub(super) fn read(headers: &[u8]) -> Option<SpanContext> {
    let text = std::str::from_utf8(headers).ok()?;
    // Most rows have none.
    if !text.contains("\"traceparent\"") {
        return None;
    }
    let headers: Headers<'_> = serde_json::from_str(text).ok()?;
    let (trace, span, flags) = parse(&headers.traceparent?)?;
    let state = headers.tracestate.as_deref().unwrap_or_default();
    let state = TraceState::from_str(state).unwrap_or_default();
    let context = SpanContext::new(trace, span, flags, true, state);
    (context.is_valid() && context.is_sampled()).then_some(context)
}

/// Parses `00-TRACE-SPAN-FLAGS`. Later versions may append to it.
fn parse(text: &str) -> Option<(TraceId, SpanId, TraceFlags)> {
    let mut parts = text.split('-');
    let mut hex = |length: usize| {
        let part = parts.next()?;
        let is_hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        (part.len() == length && part.bytes().all(is_hex)).then_some(part)
    };
    let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    let is_whole = parts.next().is_none();
    if version == "ff" || (version == "00" && !is_whole) {
        return None;
    }
    Some((
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(traceparent: &str) -> Option<SpanContext> {
        let headers = serde_json::json!({ "a": 1, "traceparent": traceparent });
        read(headers.to_string().as_bytes())
    }

    #[test]
    fn a_sampled_context_is_read_with_its_state() {
        let context = of(GOOD).expect("a context");
        assert_eq!(
            context.trace_id().to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(context.span_id().to_string(), "b7ad6b7169203331");
        assert!(context.is_remote());
        let later = of(&GOOD.replacen("00", "cc", 1)).expect("a later version");
        assert_eq!(later, context);
        assert!(of(&format!("{}-more", GOOD.replacen("00", "cc", 1))).is_some());
        let headers = format!(r#"{{"tracestate":"a=1,b=2","traceparent":"{GOOD}"}}"#);
        let context = read(headers.as_bytes()).expect("a context");
        assert_eq!(context.trace_state().header(), "a=1,b=2");
        let headers = format!(r#"{{"tracestate":"junk","traceparent":"{GOOD}"}}"#);
        let context = read(headers.as_bytes()).expect("its state is left out");
        assert_eq!(context.trace_state().header(), "");
    }

    #[test]
    fn what_is_no_context_or_is_not_sampled_is_left_out() {
        for bad in [
            "",
            "junk",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
        for headers in [
            "",
            "{}",
            "[]",
            r#"{"traceparent": 7}"#,
            r#"{"traceparent": null}"#,
            r#"{"x": "\"traceparent\""}"#,
            "{\"traceparent\": \"",
        ] {
            assert_eq!(read(headers.as_bytes()), None, "{headers}");
        }
    }
}
