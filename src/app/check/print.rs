//! Findings as text, the worst first.

use std::io::Write;

use super::examine::Report;
use super::finding::Severity;

pub(super) fn print(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    for line in &report.looked_at {
        writeln!(out, "looked at {line}")?;
    }
    for finding in &report.findings {
        let outbox = match &finding.outbox {
            Some(outbox) => format!("  {outbox}"),
            None => String::new(),
        };
        writeln!(out)?;
        writeln!(
            out,
            "{:<8}{}{outbox}",
            finding.severity.word(),
            finding.code.text()
        )?;
        writeln!(out, "  what    {}", indented(&finding.what))?;
        writeln!(out, "  why     {}", indented(&finding.why))?;
        writeln!(out, "  remedy  {}", indented(&finding.remedy))?;
    }
    let count = |severity: Severity| {
        let found = report.findings.iter();
        let number = found.filter(|it| it.severity == severity).count();
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {}{plural}", severity.word())
    };
    writeln!(out)?;
    writeln!(
        out,
        "{}, {}, {}",
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Note)
    )
}

fn indented(text: &str) -> String {
    text.replace('\n', "\n          ")
}
