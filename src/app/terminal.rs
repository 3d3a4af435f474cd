//! Colour and what a terminal can do beside it.

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

/// What is well.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// What needs an eye.
pub(super) const CAREFUL: Style = AnsiColor::Yellow.on_default().bold();
/// What needs a hand.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// A name that a block begins with.
pub(super) const TITLE: Style = Style::new().bold();

/// Settles for the whole program that NO_COLOR has the last word. What else decides (a terminal, CLICOLOR_FORCE) is the library's.
pub(super) fn obey_no_color() {
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        ColorChoice::Never.write_global();
    }
}

/// Whether colours go to this stream.
pub(super) fn coloured(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// The text in a style, which a stream without colours leaves out.
pub(super) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Writes text that has styles to standard output, without them where they do not belong.
pub(super) fn write(out: &mut std::io::StdoutLock<'_>, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    if coloured(&std::io::stdout()) {
        out.write_all(text.as_bytes())
    } else {
        write!(out, "{}", anstream::adapter::strip_str(text))
    }
}
