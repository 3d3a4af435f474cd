//! Findings as text or JSON.

use std::io::Write;

use serde::Serialize;

use super::flags::VerifyFlags;
use super::judge::{Findings, Offender};
use crate::cli::tally::{Tally, row};
use crate::cli::terminal::print_json;
use crate::kafka::TopicReader;
use crate::numbers::{counted, counted_verb};

#[derive(Debug, Serialize)]
struct Topic {
    name: String,
    partitions: usize,
    /// Offsets without a record at its beginning.
    expired: i64,
}

/// All findings, and which of them fail the command.
#[derive(Debug, Serialize)]
pub(super) struct VerifyReport<'a> {
    outbox: String,
    topics: Vec<Topic>,
    /// Records of other programs.
    pub(super) foreign: u64,
    #[serde(flatten)]
    pub(super) findings: Findings,
    #[serde(skip)]
    flags: &'a VerifyFlags,
    /// Whether rows are sent by a time of their own.
    #[serde(skip)]
    has_times: bool,
}

impl<'a> VerifyReport<'a> {
    pub(super) fn new(outbox: String, flags: &'a VerifyFlags, has_times: bool) -> Self {
        Self {
            outbox,
            topics: Vec::new(),
            foreign: 0,
            findings: Findings::default(),
            flags,
            has_times,
        }
    }

    pub(super) fn note(&mut self, history: &TopicReader) {
        self.topics.push(Topic {
            name: history.topic.clone(),
            partitions: history.partition_count,
            expired: history.expired,
        });
    }

    /// Returns the findings that fail the command, in one line.
    pub(super) fn verdict(&self) -> Option<String> {
        let (found, flags) = (&self.findings, self.flags);
        let listed = |tally: &Option<Tally<i64>>| tally.as_ref().map_or(0, |tally| tally.count);
        let unaccounted = found.unaccounted.unwrap_or(0);
        let offences = [
            (true, listed(&found.missing), "missing"),
            (!flags.allow_doubles, found.doubled.count, "doubled"),
            (
                !flags.allow_late && !self.has_times,
                found.out_of_order.count,
                "out of order",
            ),
            (flags.strict, listed(&found.unlisted), "not in --ids"),
            (flags.strict, unaccounted, "unaccounted for"),
        ];
        let said: Vec<String> = offences
            .into_iter()
            .filter(|(judged, count, _)| *judged && *count > 0)
            .map(|(_, count, what)| format!("{count} {what}"))
            .collect();
        (!said.is_empty()).then(|| said.join(", "))
    }

    pub(super) fn print(&self) -> std::io::Result<()> {
        if self.flags.json {
            let mut value = serde_json::to_value(self)?;
            value["ok"] = self.verdict().is_none().into();
            return print_json(&value);
        }
        let mut out = std::io::stdout().lock();
        self.counts(&mut out)?;
        self.offenders(&mut out)
    }

    fn counts(&self, out: &mut impl Write) -> std::io::Result<()> {
        let found = &self.findings;
        writeln!(out, "{}", self.outbox)?;
        for topic in &self.topics {
            let (partitions, expired) = (topic.partitions, topic.expired);
            let text = format!("{}, {}", topic.name, counted(partitions, "partition"));
            row(out, "topic", &text)?;
            if expired > 0 {
                let text = format!(
                    "{} at its beginning without a record, by retention or compaction: events there cannot be found",
                    counted(expired, "offset")
                );
                row(out, "", &text)?;
            }
        }
        let number = |count: u64| Some(count.to_string());
        let if_any = |count: u64, text: &dyn Fn(u64) -> String| (count > 0).then(|| text(count));
        let listed = |tally: &Option<Tally<i64>>| number(tally.as_ref()?.count);
        let sent = if_any(found.sent_but_in_table, &|rows| {
            format!(", and {} sent already", counted_verb(rows, "row", "are"))
        });
        let delayed = if_any(found.delayed, &|rows| {
            format!(", {} not to be sent yet", counted_verb(rows, "row", "are"))
        });
        let late = match found.out_of_order.count {
            late @ 1.. if self.has_times => format!(
                "{late}, which is no offence: rows with not_before are sent in the order of their times"
            ),
            late => late.to_string(),
        };
        let unaccounted = found.unaccounted.map(|ids| {
            let ids = counted(ids, "id");
            format!("{ids}: rolled back, sent elsewhere, deleted by hand, or lost; --ids FILE tells which")
        });
        for (name, text) in [
            ("records", number(found.records)),
            ("events", number(found.events)),
            (
                "foreign",
                if_any(self.foreign, &|it| {
                    counted(it, "record") + " of other programs"
                }),
            ),
            (
                "reused ids",
                if_any(found.repeated_seqs, &|ids| {
                    format!(
                        "{ids}: the sequence was reset, a backup was restored, or two outboxes use one topic; --ids cannot distinguish these rows"
                    )
                }),
            ),
            (
                "waiting",
                Some(format!(
                    "{} in the table{}{}",
                    counted(found.waiting, "row"),
                    delayed.unwrap_or_default(),
                    sent.unwrap_or_default()
                )),
            ),
            (
                "parked",
                if_any(found.parked, &|it| counted(it, "dead letter")),
            ),
            ("missing", listed(&found.missing)),
            ("unaccounted", unaccounted),
            ("not in --ids", listed(&found.unlisted)),
            ("doubled", number(found.doubled.count)),
            ("out of order", Some(late)),
        ] {
            text.map_or(Ok(()), |text| row(out, name, &text))?;
        }
        Ok(())
    }

    fn offenders(&self, out: &mut impl Write) -> std::io::Result<()> {
        let found = &self.findings;
        for (what, tally) in [
            ("missing", found.missing.as_ref()),
            (
                "not in --ids",
                found.unlisted.as_ref().filter(|_| self.flags.strict),
            ),
        ] {
            let Some(tally) = tally else { continue };
            for seq in &tally.first {
                writeln!(out, "{what}: seq {seq}")?;
            }
            tally.write_rest(out, what)?;
        }
        for (what, link, tally) in [
            ("doubled", "the same event as", &found.doubled),
            ("out of order", "after", &found.out_of_order),
        ] {
            for offender in &tally.first {
                let (at, earlier) = (&offender.place, &offender.earlier);
                writeln!(
                    out,
                    "{what}: {at}, {}; {link} {earlier}, seq {}",
                    event(offender),
                    offender.earlier_seq
                )?;
            }
            tally.write_rest(out, what)?;
        }
        Ok(())
    }
}

fn event(offender: &Offender) -> String {
    let key = match &offender.key {
        Some(key) => format!("key {key:?}"),
        None => "no key".to_owned(),
    };
    format!("{key}, seq {}, id {}", offender.seq, offender.id)
}
