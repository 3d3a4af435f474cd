//! Findings as text with colours, the most severe first.

use std::fmt::Write;

use super::examine::Report;
use super::finding::{Finding, Severity};
use crate::cli::terminal::{BAD, CAREFUL, TITLE, styled};
use crate::numbers::counted;

pub(super) fn text(report: &Report) -> String {
    let mut text = String::new();
    for line in &report.looked_at {
        text += &format!("examined {line}\n");
    }
    for finding in &report.findings {
        text += &block(finding);
    }
    let count = |severity: Severity| {
        let found = report.findings.iter();
        let number = found.filter(|it| it.severity == severity).count();
        counted(number, severity.word())
    };
    let counts = [Severity::Error, Severity::Warning, Severity::Note].map(count);
    writeln!(text, "\n{}", counts.join(", ")).expect("writing into a String cannot fail");
    text
}

fn block(finding: &Finding) -> String {
    let word = format!("{:<8}", finding.severity.word());
    let word = match finding.severity {
        Severity::Error => styled(BAD, word),
        Severity::Warning => styled(CAREFUL, word),
        Severity::Note => word,
    };
    let outbox = match &finding.outbox {
        Some(outbox) => format!("  {outbox}"),
        None => String::new(),
    };
    format!(
        "\n{word}{}{outbox}\n  what    {}\n  why     {}\n  remedy  {}\n",
        styled(TITLE, finding.code.text()),
        indented(&finding.what),
        indented(&finding.why),
        indented(&finding.remedy)
    )
}

fn indented(text: &str) -> String {
    text.replace('\n', "\n          ")
}
