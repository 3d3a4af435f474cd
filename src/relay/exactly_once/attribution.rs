//! Which rows keep a transaction from being committed.

use crate::kafka::{Code, Verdict, decide};
use crate::relay::in_flight::Ticket;

/// The ticket of a record that belongs to no row.
pub(crate) const NO_ROW: Ticket = Ticket::MAX;

/// What made a transaction fail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Culprit {
    /// These rows.
    Rows {
        /// Kafka can never take them.
        rejected: Vec<(Ticket, Code)>,
        /// They were refused together with their batch. Each is sent again in a transaction of its
        /// own.
        suspects: Vec<(Ticket, Code)>,
    },
    /// A row that no report names. It is found by halving the transaction.
    Unknown,
    /// No row.
    None,
}

/// Attributes the failure of a transaction of these rows, from the reports that failed and from
/// `whole`, the error of the producer for the transaction. That error may also concern the receipt.
/// So it rejects a row only if the row was `suspected` before, since a barrier is written to the
/// topic of the receipts between two tries.
pub(crate) fn attribute(
    rows: &[Ticket],
    failed: &[(Ticket, Code)],
    whole: Option<Code>,
    suspected: bool,
) -> Culprit {
    let alone = rows.len() == 1;
    let (mut rejected, mut suspects) = (Vec::new(), Vec::new());
    for (ticket, code) in failed.iter().filter(|(ticket, _)| *ticket != NO_ROW) {
        match decide(*code) {
            Verdict::Row => rejected.push((*ticket, *code)),
            Verdict::Suspect if alone => rejected.push((*ticket, *code)),
            Verdict::Suspect => suspects.push((*ticket, *code)),
            Verdict::Purged | Verdict::Producer => {}
        }
    }
    if !rejected.is_empty() || !suspects.is_empty() {
        return Culprit::Rows { rejected, suspects };
    }
    let Some(code) = whole.filter(|code| matches!(decide(*code), Verdict::Row | Verdict::Suspect))
    else {
        return Culprit::None;
    };
    match rows {
        [] => Culprit::None,
        [row] if suspected => Culprit::Rows {
            rejected: vec![(*row, code)],
            suspects,
        },
        [row] => Culprit::Rows {
            rejected,
            suspects: vec![(*row, code)],
        },
        _ => Culprit::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rejected: &[(Ticket, Code)], suspects: &[(Ticket, Code)]) -> Culprit {
        Culprit::Rows {
            rejected: rejected.to_vec(),
            suspects: suspects.to_vec(),
        }
    }

    #[test]
    fn which_rows_a_failure_is_attributed_to() {
        const LARGE: Code = Code::MessageSizeTooLarge;
        const ILLEGAL: Code = Code::InvalidTopic;
        const FORBIDDEN: Code = Code::TopicAuthorizationFailed;
        const PURGED: Code = Code::PurgeQueue;
        for (count, failed, whole, expected) in [
            // A batch was refused, so its rows are tried alone. A row that was alone is rejected.
            (
                3,
                vec![(7, LARGE), (8, LARGE), (9, PURGED)],
                None,
                rows(&[], &[(7, LARGE), (8, LARGE)]),
            ),
            (1, vec![(7, LARGE)], None, rows(&[(7, LARGE)], &[])),
            // The name of a topic concerns only its own row.
            (
                3,
                vec![(8, ILLEGAL), (9, PURGED)],
                None,
                rows(&[(8, ILLEGAL)], &[]),
            ),
            // A partition could not be added, and nothing says for which row.
            (
                3,
                vec![(7, PURGED), (8, PURGED)],
                Some(FORBIDDEN),
                Culprit::Unknown,
            ),
            // A row that is alone is tried once more: the topic of the receipts may be the
            // forbidden one.
            (
                1,
                vec![(7, PURGED)],
                Some(FORBIDDEN),
                rows(&[], &[(7, FORBIDDEN)]),
            ),
            // The brokers, the producer or the receipt failed, and no row.
            (3, vec![(7, Code::NotEnoughReplicas)], None, Culprit::None),
            (
                1,
                vec![(7, PURGED)],
                Some(Code::InvalidProducerIdMapping),
                Culprit::None,
            ),
            (1, vec![(NO_ROW, LARGE)], None, Culprit::None),
            (1, vec![], Some(Code::Fenced), Culprit::None),
            (0, vec![], Some(LARGE), Culprit::None),
        ] {
            let tickets: Vec<Ticket> = (7..7 + count).collect();
            assert_eq!(
                attribute(&tickets, &failed, whole, false),
                expected,
                "{failed:?} {whole:?}"
            );
        }
        assert_eq!(
            attribute(&[9], &[(9, PURGED)], Some(FORBIDDEN), true),
            rows(&[(9, FORBIDDEN)], &[])
        );
    }
}
