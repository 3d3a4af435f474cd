//! Differences as text or JSON.

use std::io::Write;

use serde_json::json;

use super::flags::CompareFlags;
use super::pairing::{Difference, Pairing};
use crate::cli::tally::{Tally, row};
use crate::cli::terminal::print_json;
use crate::numbers::counted;

/// What is found, and which of it speaks against switching.
pub(super) struct CompareReport<'a> {
    pub(super) found: Pairing,
    pub(super) flags: &'a CompareFlags,
}

impl CompareReport<'_> {
    /// Each kind of difference, and whether it speaks against switching.
    fn kinds(&self) -> [(&'static str, &'static str, bool, &Tally<Difference>); 9] {
        let (found, flags) = (&self.found, self.flags);
        [
            ("missing", "", true, &found.missing),
            ("extra", "", !flags.allow_extra, &found.extra),
            (
                "doubled",
                "the same event as",
                !flags.allow_doubles,
                &found.doubled,
            ),
            ("other key", "unlike", true, &found.other_key),
            ("other headers", "unlike", true, &found.other_headers),
            ("other value", "unlike", true, &found.other_value),
            ("same JSON", "written unlike", flags.bytes, &found.same_json),
            ("out of order", "after", true, &found.out_of_order),
            ("partition", "unlike", true, &found.other_partition),
        ]
    }

    /// Returns what speaks against switching, in one line.
    pub(super) fn verdict(&self) -> Option<String> {
        let without_id = self.found.without_id.iter().sum::<u64>();
        let kinds = self.kinds().into_iter();
        let kinds = kinds.map(|(what, _, judged, tally)| (what, judged, tally.count));
        let foreign = ("without an id", !self.flags.allow_foreign, without_id);
        let said: Vec<String> = kinds
            .chain([foreign])
            .filter(|(_, judged, count)| *judged && *count > 0)
            .map(|(what, _, count)| format!("{count} {what}"))
            .collect();
        (!said.is_empty()).then(|| said.join(", "))
    }

    pub(super) fn print(&self) -> std::io::Result<()> {
        if self.flags.json {
            let mut value = serde_json::to_value(&self.found)?;
            value["can_switch"] = self.verdict().is_none().into();
            value["against"] = json!(self.verdict());
            return print_json(&value);
        }
        let mut out = std::io::stdout().lock();
        self.counts(&mut out)?;
        for (what, link, _, tally) in self.kinds() {
            for Difference { place, other } in &tally.first {
                match other {
                    Some(other) => writeln!(out, "{what}: {place}, {link} {other}")?,
                    None => writeln!(out, "{what}: {place}")?,
                }
            }
            tally.write_rest(&mut out, what)?;
        }
        if self.verdict().is_none() {
            writeln!(out, "one can switch: nothing speaks against it")?;
        }
        Ok(())
    }

    fn counts(&self, out: &mut impl Write) -> std::io::Result<()> {
        let found = &self.found;
        let doubled = match found.doubled_in_old {
            0 => String::new(),
            doubled => format!(", of which {doubled} repeat an event"),
        };
        row(out, "old", &(counted(found.old, "record") + &doubled))?;
        row(out, "new", &counted(found.new, "record"))?;
        row(out, "pairs", &found.pairs.to_string())?;
        for (topics, pairs) in &found.topics {
            row(out, "", &format!("{topics}: {pairs}"))?;
        }
        for (what, _, _, tally) in self.kinds() {
            row(out, what, &tally.count.to_string())?;
            if what == "other headers" {
                for (name, header) in &found.headers {
                    let name = name.escape_debug();
                    let text = format!(
                        "{name}: {} only old, {} only new, {} of another value",
                        header.only_old, header.only_new, header.other_value
                    );
                    row(out, "", &text)?;
                }
            }
        }
        let [old, new] = found.without_id;
        if old + new > 0 {
            row(out, "without an id", &format!("{old} old, {new} new"))?;
        }
        if found.at_the_edge > 0 {
            let text = format!("{} without a pair, outside of the time", found.at_the_edge);
            row(out, "not judged", &text)?;
        }
        Ok(())
    }
}
