//! What verify says.

use std::io::Write;

use serde::Serialize;

use super::VerifyFlags;
use super::judge::{Findings, Offender, Place, Tally};
use crate::kafka::History;

/// One topic that was read.
#[derive(Debug, Serialize)]
struct Topic {
    name: String,
    partitions: usize,
    /// Records that it had and has no more.
    expired: i64,
}

/// All that was found, and which of it is an offence.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    outbox: String,
    topics: Vec<Topic>,
    /// Records of others.
    pub(super) foreign: u64,
    #[serde(flatten)]
    pub(super) findings: Findings,
    #[serde(skip)]
    strict: bool,
    #[serde(skip)]
    allow_doubles: bool,
    #[serde(skip)]
    allow_late: bool,
}

impl Report {
    pub(super) fn new(outbox: String, flags: &VerifyFlags) -> Self {
        Self {
            outbox,
            topics: Vec::new(),
            foreign: 0,
            findings: Findings::default(),
            strict: flags.strict,
            allow_doubles: flags.allow_doubles,
            allow_late: flags.allow_late,
        }
    }

    pub(super) fn note(&mut self, topic: &str, history: &History) {
        self.topics.push(Topic {
            name: topic.to_owned(),
            partitions: history.partition_count,
            expired: history.expired,
        });
    }

    /// The offences in one line; `None`: there is none.
    pub(super) fn verdict(&self) -> Option<String> {
        let found = &self.findings;
        let listed = |tally: &Option<Tally<i64>>| tally.as_ref().map_or(0, |tally| tally.count);
        let offences = [
            (true, listed(&found.missing), "missing"),
            (!self.allow_doubles, found.doubled.count, "doubled"),
            (!self.allow_late, found.out_of_order.count, "out of order"),
            (self.strict, listed(&found.unlisted), "not in --ids"),
            (
                self.strict,
                found.unaccounted.unwrap_or(0),
                "unaccounted for",
            ),
        ];
        let said: Vec<String> = offences
            .into_iter()
            .filter(|(judged, count, _)| *judged && *count > 0)
            .map(|(_, count, what)| format!("{count} {what}"))
            .collect();
        (!said.is_empty()).then(|| said.join(", "))
    }

    pub(super) fn print(&self, json: bool) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if json {
            let mut value = serde_json::to_value(self)?;
            value["ok"] = self.verdict().is_none().into();
            return writeln!(out, "{value}");
        }
        self.counts(&mut out)?;
        self.offenders(&mut out)
    }

    fn counts(&self, out: &mut impl Write) -> std::io::Result<()> {
        let found = &self.findings;
        writeln!(out, "{}", self.outbox)?;
        for topic in &self.topics {
            writeln!(
                out,
                "  topic         {}, {} partitions",
                topic.name, topic.partitions
            )?;
            if topic.expired > 0 {
                let expired = topic.expired;
                writeln!(
                    out,
                    "                its first {expired} offsets are gone by retention or were never kept: what they held cannot be found"
                )?;
            }
        }
        writeln!(out, "  records       {}", found.records)?;
        writeln!(out, "  events        {}", found.events)?;
        if self.foreign > 0 {
            writeln!(out, "  foreign       {} records of others", self.foreign)?;
        }
        if found.repeated_seqs > 0 {
            writeln!(
                out,
                "  reused ids    {}: a reset sequence, a restored backup, or two outboxes in one topic; --ids cannot tell those rows apart",
                found.repeated_seqs
            )?;
        }
        let in_table = match found.sent_but_in_table {
            0 => String::new(),
            sent => format!(", and {sent} that are sent already"),
        };
        writeln!(
            out,
            "  waiting       {} rows in the table{in_table}",
            found.waiting
        )?;
        if found.parked > 0 {
            writeln!(out, "  parked        {} dead letters", found.parked)?;
        }
        match (&found.missing, found.unaccounted) {
            (Some(missing), _) => writeln!(out, "  missing       {}", missing.count)?,
            (None, Some(ids)) => writeln!(
                out,
                "  unaccounted   {ids} ids: rolled back, sent elsewhere, deleted by hand, or lost; --ids FILE tells which"
            )?,
            (None, None) => {}
        }
        if let Some(unlisted) = &found.unlisted {
            writeln!(out, "  not in --ids  {}", unlisted.count)?;
        }
        writeln!(out, "  doubled       {}", found.doubled.count)?;
        writeln!(out, "  out of order  {}", found.out_of_order.count)
    }

    fn offenders(&self, out: &mut impl Write) -> std::io::Result<()> {
        let found = &self.findings;
        for (what, tally) in [
            ("missing", found.missing.as_ref()),
            (
                "not in --ids",
                found.unlisted.as_ref().filter(|_| self.strict),
            ),
        ] {
            let Some(tally) = tally else { continue };
            for seq in &tally.first {
                writeln!(out, "{what}: seq {seq}")?;
            }
            more(out, what, tally)?;
        }
        for (what, link, tally) in [
            ("doubled", "the same event as", &found.doubled),
            ("out of order", "behind", &found.out_of_order),
        ] {
            for offender in &tally.first {
                let (at, earlier) = (shown(&offender.place), shown(&offender.earlier));
                writeln!(
                    out,
                    "{what}: {at}, {}; {link} {earlier}, seq {}",
                    event(offender),
                    offender.earlier_seq
                )?;
            }
            more(out, what, tally)?;
        }
        Ok(())
    }
}

fn more<T>(out: &mut impl Write, what: &str, tally: &Tally<T>) -> std::io::Result<()> {
    match tally.count - tally.first.len() as u64 {
        0 => Ok(()),
        others => writeln!(out, "{what}: {others} more"),
    }
}

fn shown(place: &Place) -> String {
    format!("{}/{}/{}", place.topic, place.partition, place.offset)
}

fn event(offender: &Offender) -> String {
    let key = match &offender.key {
        Some(key) => format!("key {key:?}"),
        None => "no key".to_owned(),
    };
    format!("{key}, seq {}, id {}", offender.seq, offender.id)
}
