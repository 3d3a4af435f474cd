//! The settings that the rest of Doorbell reads: complete, checked, in types.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::errors::one_of;
use super::types::{Columns, DatabaseUrl, Listen, Route, RouteRule, TableName, TopicPatterns};

/// Defaults, with the reason for each.
pub(crate) mod defaults {
    use std::time::Duration;

    /// A sweep is a safety net that should find nothing, so it may be slow.
    pub(crate) const SWEEP: Duration = Duration::from_secs(60);
    /// Enough rows to keep fetch, produce and delete busy at full speed at the same time.
    pub(crate) const IN_FLIGHT_ROWS: usize = 20_000;
    /// Far more bytes than a broker's round trip needs, far fewer than a small container has.
    pub(crate) const IN_FLIGHT_BYTES: usize = 32 << 20;
    /// More rows than an operator would send back by hand, and few enough to keep the others.
    pub(crate) const POISON_BREAKER: usize = 1_000;
    /// One topic for each table, so that no outbox waits for the transactions of another.
    pub(crate) const RECEIPTS: &str = "doorbell.receipts.{table}";
    /// The time that container platforms grant before they kill.
    pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(30);
    /// Loopback: access from other machines must be configured.
    pub(crate) const LISTEN: &str = "127.0.0.1:8686";
    /// Longer than a broker's restart or the election of a partition's leader takes, and short
    /// enough that it is worth paging an operator.
    pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(60);
    /// Long enough that the leader's four sessions need a heartbeat at most twice a minute, and
    /// that a machine which is only slow is never taken for a frozen one.
    pub(crate) const LEADER_TIMEOUT: Duration = Duration::from_secs(120);
}

/// Everything that is configured.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the outboxes are.
    pub database: Database,
    /// Where the events go.
    pub kafka: Kafka,
    /// The outboxes: at least one, no table twice.
    pub outboxes: Vec<Outbox>,
    /// How long a stop waits for what is in flight.
    pub stop_timeout: Duration,
    /// How long a leader may be unresponsive before a standby takes over. It must be the same for
    /// all relays of an outbox: each leader derives the interval of its heartbeats from it.
    pub leader_timeout: Duration,
    /// The HTTP listener.
    pub http: Http,
    /// Where traces go.
    pub telemetry: Telemetry,
}

impl Settings {
    /// Settings with one outbox and the default of every key, for a program that embeds the relay
    /// and fills the fields itself. Fields are not validated; [`Settings::from_toml`] validates
    /// what it reads.
    pub fn new(url: DatabaseUrl, brokers: impl Into<String>) -> Self {
        Self {
            database: Database { url },
            kafka: Kafka {
                brokers: brokers.into(),
                ..Kafka::default()
            },
            outboxes: vec![Outbox::default()],
            stop_timeout: defaults::STOP_TIMEOUT,
            leader_timeout: defaults::LEADER_TIMEOUT,
            http: Http::default(),
            telemetry: Telemetry::default(),
        }
    }
}

/// Traces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// The URL that accepts spans as protobuf over HTTP; `None`: no traces.
    pub traces: Option<String>,
    /// The label `name` of all metrics, which tells services apart; `None`: no such label.
    pub name: Option<String>,
}

/// The HTTP listener.
#[derive(Debug, Clone)]
pub struct Http {
    /// The address that it binds.
    pub listen: Listen,
    /// The relay is stuck when rows wait and none was delivered for this long.
    pub stuck_after: Duration,
    /// Clients that present it may retry and drop dead letters; `None`: no client may.
    pub token: Option<SecretString>,
    /// Whether the page shows the first bytes of dead letters' payloads.
    pub show_payloads: bool,
    /// Names of hosts under which it may be requested, besides addresses and localhost.
    pub hosts: Vec<String>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: Listen::Default,
            stuck_after: defaults::STUCK_AFTER,
            token: None,
            show_payloads: false,
            hosts: Vec::new(),
        }
    }
}

/// The database.
#[derive(Debug, Clone)]
pub struct Database {
    /// Hosts, user, password and database.
    pub url: DatabaseUrl,
}

/// The Kafka cluster.
#[derive(Debug, Clone, Default)]
pub struct Kafka {
    /// `host:port,host:port`. Empty if none is given and none is needed.
    pub brokers: String,
    /// The file with the token for OAUTHBEARER, which is read again each time that a token is
    /// needed.
    pub token_file: Option<PathBuf>,
    /// Properties for librdkafka, without those that Doorbell sets itself.
    pub properties: BTreeMap<String, SecretString>,
}

/// One outbox table and how its rows travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbox {
    /// The table.
    pub table: TableName,
    /// The topic of rows that name none and that no route takes.
    pub topic: Route,
    /// The interval of the scans for rows that no notification announced.
    pub sweep: Duration,
    /// The names of the table's columns.
    pub columns: Columns,
    /// The topics that rows may go to.
    pub topics: TopicPatterns,
    /// Where rows go that name no topic; the first that takes a row counts.
    pub routes: Vec<RouteRule>,
    /// The headers that the relay sets by itself.
    pub profile: Profile,
    /// Whether a payload of blanks is a tombstone.
    pub tombstone_on_blank: bool,
    /// Headers that each record has, with their texts.
    pub fixed_headers: BTreeMap<String, String>,
    /// What becomes the timestamp of records.
    pub timestamp: RecordTime,
    /// What happens to rows that Kafka can never accept.
    pub poison: Poison,
    /// The same, for rows of one topic.
    pub poison_topics: BTreeMap<String, Poison>,
    /// After so many rows that were refused for the sake of their topic, the topic's other rows
    /// wait; `None`: all are refused.
    pub poison_breaker: Option<usize>,
    /// At most this many rows between fetch and delete.
    pub in_flight_rows: usize,
    /// At most this many bytes of rows between fetch and acknowledgement.
    pub in_flight_bytes: usize,
    /// At most this many rows a second; `None`: no limit.
    pub max_rate: Option<usize>,
    /// How often a consumer may see an event.
    pub delivery: Delivery,
}

impl Outbox {
    /// The columns that only the configuration names, which a dead letter keeps. One may be here
    /// twice.
    pub(crate) fn kept_columns(&self) -> impl Iterator<Item = &str> {
        let of_topic = self.topic.columns().chain(self.route_columns());
        self.columns.more().chain(of_topic)
    }

    /// The names of the headers that the relay sets by its profile.
    pub(crate) fn profile_headers(&self) -> impl Iterator<Item = &'static str> {
        let has_type = self.columns.event_type.is_some();
        let names = self.profile.headers().iter().copied();
        names.filter(move |name| has_type || *name != "type")
    }
}

/// How often a consumer may see an event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Delivery {
    /// At least once: again after a crash.
    #[default]
    AtLeastOnce,
    /// Exactly once, if the consumer reads committed records only.
    ExactlyOnce(Transactions),
}

/// The names that the mode exactly-once uses on the brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transactions {
    /// The producer's `transactional.id`; `None`: derived from the outbox's identity.
    pub id: Option<String>,
    /// The topic of the receipts: a template without `{type}`.
    pub receipts: Route,
}

impl Transactions {
    /// The user's id, or one that no other outbox has, derived from the identity of this one.
    pub fn id_of(&self, outbox: impl std::fmt::Display) -> String {
        let id = self.id.clone();
        id.unwrap_or_else(|| format!("doorbell.{outbox}"))
    }
}

impl Default for Transactions {
    fn default() -> Self {
        Self {
            id: None,
            receipts: Route::parse(defaults::RECEIPTS).unwrap_or_default(),
        }
    }
}

impl Delivery {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let exactly_once = Self::ExactlyOnce(Transactions::default());
        let known = [
            ("at-least-once", Self::AtLeastOnce),
            ("exactly-once", exactly_once),
        ];
        one_of(text, known)
    }

    /// The configured transactional id.
    pub(super) fn transactional_id(&self) -> Option<&str> {
        match self {
            Self::AtLeastOnce => None,
            Self::ExactlyOnce(transactions) => transactions.id.as_deref(),
        }
    }
}

/// Which headers the relay sets by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// `id`, `seq` and `type`.
    #[default]
    Doorbell,
    /// `id`, as Debezium's outbox event router sends it.
    Debezium,
    /// None.
    None,
}

impl Profile {
    /// The names of these headers.
    fn headers(self) -> &'static [&'static str] {
        match self {
            Self::Doorbell => &["id", "seq", "type"],
            Self::Debezium => &["id"],
            Self::None => &[],
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        one_of(
            text,
            [Self::Doorbell, Self::Debezium, Self::None].map(|it| (it.name(), it)),
        )
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Doorbell => "doorbell",
            Self::Debezium => "debezium",
            Self::None => "none",
        }
    }
}

/// What becomes the timestamp of a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RecordTime {
    /// The row's `created_at`, unless it is ahead of now.
    #[default]
    CreatedAt,
    /// When the record is sent.
    Sent,
}

impl RecordTime {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        one_of(
            text,
            [("created_at", Self::CreatedAt), ("sent", Self::Sent)],
        )
    }
}

/// What happens to a row that Kafka can never accept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Poison {
    /// The relay moves it to `doorbell.dead` and goes on.
    #[default]
    Park,
    /// It stays and is retried. Later rows of its key wait behind it; all others go on.
    HoldKey,
    /// It stays, and the relay exits rather than skip it.
    Stop,
}

impl Poison {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let known = [
            ("park", Self::Park),
            ("hold-key", Self::HoldKey),
            ("stop", Self::Stop),
        ];
        one_of(text, known)
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            table: TableName::default(),
            topic: Route::default(),
            routes: Vec::new(),
            sweep: defaults::SWEEP,
            columns: Columns::default(),
            topics: TopicPatterns::default(),
            profile: Profile::default(),
            tombstone_on_blank: false,
            fixed_headers: BTreeMap::new(),
            timestamp: RecordTime::default(),
            poison: Poison::default(),
            poison_topics: BTreeMap::new(),
            poison_breaker: Some(defaults::POISON_BREAKER),
            in_flight_rows: defaults::IN_FLIGHT_ROWS,
            in_flight_bytes: defaults::IN_FLIGHT_BYTES,
            max_rate: None,
            delivery: Delivery::default(),
        }
    }
}
