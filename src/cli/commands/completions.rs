//! Completions and man pages, from the definitions of the command line.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::exit::Outcome;

pub(crate) fn completions(mut command: Command, shell: Shell) -> Outcome {
    let name = command.get_name().to_owned();
    // Written at once: the library panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(())
}

/// Prints the manual's first page, or writes all of them into a folder.
pub(crate) fn man(command: Command, folder: Option<&Path>) -> Outcome {
    let mut out = std::io::stdout().lock();
    let Some(folder) = folder else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        out.write_all(&page)?;
        return Ok(());
    };
    let shown = folder.display();
    std::fs::create_dir_all(folder)
        .with_context(|| format!("failed to make the folder {shown}"))?;
    clap_mangen::generate_to(command, folder)
        .with_context(|| format!("failed to write man pages into {shown}"))?;
    writeln!(
        out,
        "the man pages are in {shown}; read one with `man {shown}/doorbell.1`"
    )?;
    Ok(())
}
