//! Colours on a terminal.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};

use anstream::stream::RawStream;
use anstream::{AutoStream, ColorChoice};
use clap::builder::styling::{AnsiColor, Style};

pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const CAREFUL: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Style of the name at the top of a block.
pub(crate) const TITLE: Style = Style::new().bold();

/// Disables colours if NO_COLOR is set. The library handles the rest (a terminal, CLICOLOR_FORCE).
pub fn obey_no_color() {
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        ColorChoice::Never.write_global();
    }
}

/// Returns whether this stream has colours.
pub(crate) fn coloured(stream: &impl RawStream) -> bool {
    AutoStream::choice(stream) != ColorChoice::Never
}

/// Adds a style to the text; a stream without colours strips it.
pub(crate) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Escapes control characters if the stream is a terminal, which would obey them: payloads and
/// names are written by others. Line breaks, tabs and the styles of this module stay.
pub(crate) fn harmless<'a>(stream: &impl IsTerminal, text: &'a str) -> Cow<'a, str> {
    match stream.is_terminal() {
        true => escaped(text).into(),
        false => text.into(),
    }
}

fn escaped(text: &str) -> String {
    const STYLES: [&str; 5] = ["\x1b[0m", "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m"];
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let style = STYLES.iter().find(|style| rest.starts_with(**style));
        rest = &rest[style.map_or(first.len_utf8(), |style| style.len())..];
        match style {
            Some(style) => safe += style,
            None if first.is_control() && !"\n\t".contains(first) => {
                safe.extend(first.escape_default())
            }
            None => safe.push(first),
        }
    }
    safe
}

/// Writes styled text to standard output, without styles if it has no colours.
pub(crate) fn write(out: &mut std::io::StdoutLock<'_>, text: &str) -> std::io::Result<()> {
    let text = harmless(&std::io::stdout(), text);
    if coloured(&std::io::stdout()) {
        out.write_all(text.as_bytes())
    } else {
        write!(out, "{}", anstream::adapter::strip_str(&text))
    }
}

/// Formats rows below a head, each column as wide as its widest cell.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
    let width = |column: usize| {
        let cells = rows
            .iter()
            .chain([&head])
            .map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let mut text = String::new();
    for row in [&head].into_iter().chain(rows) {
        let cells = row.iter().enumerate();
        let cells: Vec<_> = cells
            .map(|(at, cell)| format!("{cell:w$}", w = width(at)))
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// Returns bytes as text, or as `\x` and hexadecimal digits, as PostgreSQL writes them.
pub(crate) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            "\\x".to_owned() + &digits.collect::<String>()
        }
    }
}

/// Prints a value as JSON, on one line.
pub(crate) fn print_json(value: &impl serde::Serialize) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_styles_stay() {
        let text = format!(
            "{}\n\t\x1b]52;c;YQ==\x07\x1b[2J\u{9b}8m\r",
            styled(BAD, "é")
        );
        let expected = format!(
            "{}\n\t\\u{{1b}}]52;c;YQ==\\u{{7}}\\u{{1b}}[2J\\u{{9b}}8m\\r",
            styled(BAD, "é")
        );
        assert_eq!(escaped(&text), expected);
    }
}
