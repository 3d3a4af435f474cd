//! `--fix`: adds what is missing and enables what is disabled. It removes nothing.

use std::io::{IsTerminal, Write};

use anyhow::Context;

use super::examine::Report;
use super::finding::{Finding, Fix};
use crate::cli::exit::Failure;
use crate::cli::terminal::harmless;
use crate::config::Settings;
use crate::numbers::counted_verb;
use crate::postgres::{self, Server, Session};

/// Repairs what the user agrees to. Returns whether anything was changed.
pub(super) async fn fix(settings: &Settings, report: &Report, yes: bool) -> Result<bool, Failure> {
    let mut fixable: Vec<(&Finding, &Fix)> = Vec::new();
    for finding in &report.findings {
        // One migration resolves several findings of an outbox.
        let again = |(other, fix): &&(&Finding, &Fix)| {
            Some(*fix) == finding.fix.as_ref() && other.outbox == finding.outbox
        };
        if let Some(fix) = &finding.fix
            && !fixable.iter().any(|it| again(&it))
        {
            fixable.push((finding, fix));
        }
    }
    // A statement may need the schema that the migration creates.
    fixable.sort_by_key(|(_, fix)| **fix != Fix::Migrate);
    if fixable.is_empty() {
        eprintln!("--fix can repair none of the findings");
        return Ok(false);
    }
    if !yes && !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "{} a confirmation, and standard input is no terminal: add --yes",
            counted_verb(fixable.len(), "change", "need")
        )));
    }
    let server = Server::find(&settings.database.url).await?;
    let mut session = Session::open(&server, "check").await?;
    let mut changed = false;
    for (finding, fix) in fixable {
        let done = match fix {
            Fix::Migrate => format!(
                "doorbell migrate --table '{}'",
                finding.outbox.as_deref().unwrap_or_default()
            ),
            Fix::Sql(statement) => statement.clone(),
        };
        if !yes && !agreed(&format!("{}: {done}", finding.what))? {
            continue;
        }
        apply(settings, &mut session, finding, fix)
            .await
            .with_context(|| format!("failed to fix {}: {done}", finding.code.text()))?;
        eprintln!("done: {done}");
        changed = true;
    }
    Ok(changed)
}

async fn apply(
    settings: &Settings,
    session: &mut Session,
    finding: &Finding,
    fix: &Fix,
) -> Result<(), anyhow::Error> {
    match fix {
        Fix::Sql(statement) => postgres::patient_ddl(session, statement).await?,
        Fix::Migrate => {
            let named =
                |outbox: &&crate::config::Outbox| Some(outbox.table.to_string()) == finding.outbox;
            let outbox = settings.outboxes.iter().find(named);
            let outbox = outbox.context("the finding names no outbox of the configuration")?;
            postgres::migrate(session, outbox).await?;
        }
    }
    Ok(())
}

fn agreed(question: &str) -> std::io::Result<bool> {
    let question = harmless(&std::io::stderr(), question);
    eprint!("{question}\nDo it? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
