//! The tables of other relays, and the records that these make of them.

use clap::ValueEnum;

use super::mapping::Mapping;
use crate::config::PROPERTIES;

/// A relay whose table is adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// Debezium's outbox event router, with or without the extension for Quarkus
    Debezium,
    /// Open Outbox Relay
    OpenOutbox,
    /// eventferry
    Eventferry,
    /// transactional-outbox of Tomorrow
    TomorrowOne,
}

impl Preset {
    /// Recognises a table by its columns.
    pub(super) fn of(has: impl Fn(&str) -> bool) -> Option<Self> {
        let all = [
            Self::OpenOutbox,
            Self::Eventferry,
            Self::TomorrowOne,
            Self::Debezium,
        ];
        let mut fitting = all
            .into_iter()
            .filter(|it| it.telling().iter().all(|name| has(name)));
        fitting.next()
    }

    /// Columns that together no other of these tables has.
    fn telling(self) -> &'static [&'static str] {
        match self {
            Self::Debezium => &["id", "aggregatetype", "aggregateid", "payload"],
            Self::OpenOutbox => &["event_id", "event_type", "partition_key", "available_at"],
            Self::Eventferry => &["message_id", "aggregate_type", "aggregate_id", "topic"],
            Self::TomorrowOne => &["created", "topic", "value", "headers", "processed"],
        }
    }

    /// Returns how rows become the records that the relay's consumers expect. `type_of` says which
    /// of the columns that a table may lack this one has.
    pub(super) fn mapping<'a>(self, type_of: impl Fn(&str) -> Option<&'a str>) -> Mapping {
        match self {
            Self::Debezium => debezium(type_of),
            Self::OpenOutbox => open_outbox(),
            Self::Eventferry => eventferry(),
            Self::TomorrowOne => tomorrow_one(),
        }
    }

    /// Whether the relay reads the table, and not the WAL. Two such relays take rows from each
    /// other.
    pub(super) fn polls(self) -> bool {
        self != Self::Debezium
    }

    /// The condition on rows that the relay has not sent, where it keeps those that it has.
    pub(super) fn unsent(self) -> Option<&'static str> {
        match self {
            Self::Debezium => None,
            Self::OpenOutbox => Some("status IN ('PENDING', 'DELIVERING')"),
            Self::Eventferry => Some("status IN (0, 1, 3)"),
            Self::TomorrowOne => Some("processed IS NULL"),
        }
    }

    /// The order in which the relay sends them.
    pub(super) fn order(self) -> &'static str {
        match self {
            Self::OpenOutbox => "created_at",
            _ => "id",
        }
    }
}

fn columns(list: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let list = list.iter();
    list.map(|(key, column)| (*key, (*column).to_owned()))
        .collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let list = list.iter();
    list.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn lines(list: &[&str]) -> Vec<String> {
    list.iter().map(|line| (*line).to_owned()).collect()
}

fn debezium<'a>(type_of: impl Fn(&str) -> Option<&'a str>) -> Mapping {
    let mut mapping = Mapping {
        profile: "debezium",
        topic: Some("outbox.event.{aggregatetype}".into()),
        columns: columns(&[
            ("event_id", "id"),
            ("key", "aggregateid"),
            ("type", "type"),
            ("payload", "payload"),
            ("created_at", "none"),
        ]),
        differences: lines(&[
            "headers `__debezium.context.*`, which Debezium adds by default, are left out",
        ]),
        ..Mapping::default()
    };
    // The extension for Quarkus has a time of creation. Debezium does not send it by default.
    if type_of("timestamp").is_some_and(|it| it.starts_with("timestamp")) {
        mapping.columns.retain(|(key, _)| *key != "created_at");
        mapping.columns.push(("created_at", "timestamp".into()));
        mapping.sent_time = true;
    }
    if type_of("tracingspancontext").is_some() {
        let pair = (PROPERTIES.to_owned(), "tracingspancontext".to_owned());
        mapping.headers_from.push(pair);
    }
    mapping
}

fn open_outbox() -> Mapping {
    Mapping {
        profile: "none",
        topic: Some("{type}".into()),
        columns: columns(&[
            ("event_id", "event_id"),
            ("key", "partition_key"),
            ("type", "event_type"),
            ("payload", "payload"),
            ("created_at", "created_at"),
            ("headers", "headers"),
            ("not_before", "available_at"),
        ]),
        headers_from: pairs(&[("X-Event-ID", "event_id")]),
        differences: lines(&[
            "it chooses the partition of a key by FNV-1a: so does partitioner = \"fnv1a_random\" under [kafka.properties]",
            "an empty partition_key becomes an empty key, not a record without one",
            "rows are sent in the order of `available_at`, and not of `created_at`",
            VERIFY,
        ]),
        ..Mapping::default()
    }
}

fn eventferry() -> Mapping {
    Mapping {
        profile: "none",
        columns: columns(&[
            ("event_id", "message_id"),
            ("key", "key"),
            ("topic", "topic"),
            ("type", "aggregate_type"),
            ("payload", "payload"),
            ("created_at", "created_at"),
            ("headers", "headers"),
        ]),
        headers_from: pairs(&[
            ("message-id", "message_id"),
            ("aggregate-type", "aggregate_type"),
            ("aggregate-id", "aggregate_id"),
            ("trace-id", "trace_id"),
        ]),
        fixed_headers: pairs(&[("content-type", "application/json")]),
        differences: lines(&[
            "a row whose `key` is NULL has no key, where eventferry takes aggregate_id: UPDATE such rows, or give the column that default",
            "the payload is the text of the jsonb, which has blanks that JSON.stringify does not write: equal as JSON",
            VERIFY,
        ]),
        ..Mapping::default()
    }
}

fn tomorrow_one() -> Mapping {
    Mapping {
        profile: "doorbell",
        columns: columns(&[
            ("key", "key"),
            ("topic", "topic"),
            ("type", "none"),
            ("payload", "value"),
            ("created_at", "created"),
            ("headers", "headers"),
        ]),
        differences: lines(&[
            "header `x-sequence` is left out: `seq` has the number, as text",
            "header `x-source` is left out: write it under [outbox.fixed_headers], with the value of `event-source`",
            "headers `id` and `seq` are added, by which consumers drop duplicates; profile = \"none\" leaves them out",
        ]),
        ..Mapping::default()
    }
}

const VERIFY: &str =
    "profile = \"doorbell\" adds the headers id, seq and type, which `verify` needs";
