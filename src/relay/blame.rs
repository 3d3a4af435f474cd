//! Whose fault it is that a transaction cannot be committed.

use super::window::Ticket;
use crate::kafka::{Code, Verdict, decide};

/// The ticket of a record that is no row.
pub(crate) const NO_ROW: Ticket = Ticket::MAX;

/// Whom the failure points at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// These rows.
    Rows {
        /// Can never be sent.
        convicts: Vec<(Ticket, Code)>,
        /// Came back with their batch: each is sent again in a transaction of its own.
        suspects: Vec<(Ticket, Code)>,
    },
    /// Some row that no report names: it is found by halving.
    Somebody,
    /// No row.
    Nobody,
}

/// Judges a transaction of these rows, by the reports that failed and by what the producer said of the transaction as a whole. That word may be about the
/// receipt as well: so it convicts a row only if it was `suspected` before, since between two tries a barrier is written to the topic of the receipts.
pub(crate) fn blame(
    rows: &[Ticket],
    failed: &[(Ticket, Code)],
    whole: Option<Code>,
    suspected: bool,
) -> Blame {
    let alone = rows.len() == 1;
    let (mut convicts, mut suspects) = (Vec::new(), Vec::new());
    for (ticket, code) in failed.iter().filter(|(ticket, _)| *ticket != NO_ROW) {
        match decide(*code) {
            Verdict::Row => convicts.push((*ticket, *code)),
            Verdict::Suspect if alone => convicts.push((*ticket, *code)),
            Verdict::Suspect => suspects.push((*ticket, *code)),
            Verdict::Purged | Verdict::Producer => {}
        }
    }
    if !convicts.is_empty() || !suspects.is_empty() {
        return Blame::Rows { convicts, suspects };
    }
    let Some(code) = whole.filter(|code| matches!(decide(*code), Verdict::Row | Verdict::Suspect))
    else {
        return Blame::Nobody;
    };
    match rows {
        [] => Blame::Nobody,
        [row] if suspected => Blame::Rows {
            convicts: vec![(*row, code)],
            suspects,
        },
        [row] => Blame::Rows {
            convicts,
            suspects: vec![(*row, code)],
        },
        _ => Blame::Somebody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(convicts: &[(Ticket, Code)], suspects: &[(Ticket, Code)]) -> Blame {
        Blame::Rows {
            convicts: convicts.to_vec(),
            suspects: suspects.to_vec(),
        }
    }

    #[test]
    fn whom_a_failure_points_at() {
        const LARGE: Code = Code::MessageSizeTooLarge;
        const ILLEGAL: Code = Code::InvalidTopic;
        const FORBIDDEN: Code = Code::TopicAuthorizationFailed;
        const PURGED: Code = Code::PurgeQueue;
        for (count, failed, whole, expected) in [
            // A batch came back: those in it are tried alone; alone, there is no doubt.
            (
                3,
                vec![(7, LARGE), (8, LARGE), (9, PURGED)],
                None,
                rows(&[], &[(7, LARGE), (8, LARGE)]),
            ),
            (1, vec![(7, LARGE)], None, rows(&[(7, LARGE)], &[])),
            // The name of a topic is a matter of its own row.
            (
                3,
                vec![(8, ILLEGAL), (9, PURGED)],
                None,
                rows(&[(8, ILLEGAL)], &[]),
            ),
            // A partition could not be added: nothing says which row asked for it.
            (
                3,
                vec![(7, PURGED), (8, PURGED)],
                Some(FORBIDDEN),
                Blame::Somebody,
            ),
            // Alone it is to be tried once more: the receipt's topic may be the one that is forbidden.
            (
                1,
                vec![(7, PURGED)],
                Some(FORBIDDEN),
                rows(&[], &[(7, FORBIDDEN)]),
            ),
            // The brokers, the producer, the receipt itself: no row.
            (3, vec![(7, Code::NotEnoughReplicas)], None, Blame::Nobody),
            (
                1,
                vec![(7, PURGED)],
                Some(Code::InvalidProducerIdMapping),
                Blame::Nobody,
            ),
            (1, vec![(NO_ROW, LARGE)], None, Blame::Nobody),
            (1, vec![], Some(Code::Fenced), Blame::Nobody),
            (0, vec![], Some(LARGE), Blame::Nobody),
        ] {
            let tickets: Vec<Ticket> = (7..7 + count).collect();
            assert_eq!(
                blame(&tickets, &failed, whole, false),
                expected,
                "{failed:?} {whole:?}"
            );
        }
        assert_eq!(
            blame(&[9], &[(9, PURGED)], Some(FORBIDDEN), true),
            rows(&[(9, FORBIDDEN)], &[])
        );
    }
}
