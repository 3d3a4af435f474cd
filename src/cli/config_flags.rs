//! The flags that stand for configuration keys, made from the table of keys.
//!
//! Their values stay text, so that an error in one is reported together with those of the
//! environment and the file, and not alone by the parser of the command line.

use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, value_parser};

use crate::config::{Flag, FlagGroup, Overrides};

/// The groups of flags, and what the help has above each.
const GROUPS: [(FlagGroup, &str); 3] = [
    (FlagGroup::Global, "Configuration"),
    (FlagGroup::Outbox, "Outbox"),
    (FlagGroup::Http, "HTTP"),
];

/// What the flags of one of the groups say.
#[derive(Debug, Clone)]
pub struct KeyFlags<const GROUP: usize> {
    pub(super) overrides: Overrides,
}

/// Flags of every command, before or after its name.
pub type GlobalFlags = KeyFlags<0>;
/// Flags of one outbox.
pub(super) type OutboxFlags = KeyFlags<1>;
/// Flags of the HTTP listener.
pub(super) type HttpFlags = KeyFlags<2>;

impl<const GROUP: usize> Args for KeyFlags<GROUP> {
    fn augment_args(command: Command) -> Command {
        let (group, heading) = GROUPS[GROUP];
        command.args(Flag::all(group).map(|flag| {
            let (action, parser) = match flag {
                _ if flag.is_repeatable() => (ArgAction::Append, ValueParser::string()),
                _ if flag.is_file() => (ArgAction::Set, value_parser!(PathBuf)),
                _ => (ArgAction::Set, ValueParser::string()),
            };
            let arg = Arg::new(flag.name);
            let arg = match flag.name.strip_prefix("--") {
                Some(long) => arg.long(long),
                None => arg.short(flag.name.chars().nth(1)),
            };
            // A negative number is judged with all other values.
            arg.allow_negative_numbers(true)
                .value_name(flag.value_name)
                .help(flag.help())
                .help_heading(heading)
                .global(group == FlagGroup::Global)
                .action(action)
                .value_parser(parser)
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const GROUP: usize> FromArgMatches for KeyFlags<GROUP> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut overrides = Overrides::default();
        for flag in Flag::all(GROUPS[GROUP].0) {
            if flag.is_file() {
                overrides.config = matches.get_one(flag.name).cloned();
                continue;
            }
            for value in matches.get_many::<String>(flag.name).into_iter().flatten() {
                overrides.push(flag, value.as_str());
            }
        }
        Ok(Self { overrides })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Leaves out of the help, the man pages and the completions of each command the flags that it
/// accepts for the sake of scripts and does not use.
pub(super) fn with_own_flags(mut root: Command) -> Command {
    root.build();
    root.mut_subcommands(|command| {
        let name = command.get_name().to_owned();
        own_flags_of(command, &name)
    })
}

fn own_flags_of(command: Command, top: &str) -> Command {
    let command = command.mut_args(|flag| {
        let is_used = is_used(top, flag.get_id().as_str());
        let is_hidden = flag.is_hide_set() || !is_used;
        flag.hide(is_hidden)
    });
    command.mut_subcommands(|inner| own_flags_of(inner, top))
}

/// A command that is not named here has the flag: one too many does less harm than one that is
/// needed and hidden.
fn is_used(command: &str, flag: &str) -> bool {
    let without: &[&str] = match flag {
        "--config" => &["completions", "man", "help"],
        "--database-url" => &["completions", "man", "help", "health", "replay"],
        "--kafka-brokers" | "-X" => &[
            "completions",
            "man",
            "help",
            "migrate",
            "status",
            "pause",
            "resume",
            "dead",
            "held",
            "health",
            "receipts",
            "emit",
        ],
        "--stop-timeout" | "--leader-timeout" => {
            return ["run", "drain", "config"].contains(&command);
        }
        "--table" | "--column" => return true,
        _ if flag.starts_with("--") => {
            return ["run", "drain", "check", "config"].contains(&command);
        }
        _ => return true,
    };
    !without.contains(&command)
}
