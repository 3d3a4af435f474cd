//! What the rest of Doorbell reads: complete, checked, in types.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::faults::meant;
use super::{Columns, DatabaseUrl, Route, TableName};

/// What holds where nothing is configured, and how far a value may go.
pub mod defaults {
    use std::ops::RangeInclusive;
    use std::time::Duration;

    /// How often the table is looked over although nothing rang: a net that should catch nothing, so it may be slow.
    pub const SWEEP: Duration = Duration::from_secs(60);
    /// Faster would be polling; slower than a day would be no net.
    pub const SWEEP_BOUNDS: RangeInclusive<Duration> =
        Duration::from_millis(100)..=Duration::from_secs(24 * 3600);
    /// Rows between fetch and delete: enough to keep fetch, produce and delete busy at full speed at once.
    pub const IN_FLIGHT_ROWS: usize = 20_000;
    /// One row at a time is slow but works; the upper end keeps the bookkeeping of each row in tens of megabytes.
    pub const IN_FLIGHT_ROWS_BOUNDS: RangeInclusive<usize> = 1..=1_000_000;
    /// Bytes between fetch and delete: far more than the broker's round trip needs, far less than a small container has.
    pub const IN_FLIGHT_BYTES: usize = 32 << 20;
    /// The topic of the receipts.
    pub const RECEIPTS: &str = "doorbell.receipts.{table}";
    /// 64 KiB to 4 GiB.
    pub const IN_FLIGHT_BYTES_BOUNDS: RangeInclusive<usize> = (64 << 10)..=(4 << 30);
    /// Rows a second. Less than one would be a pause, and more than ten million is no limit.
    pub const MAX_RATE_BOUNDS: RangeInclusive<usize> = 1..=10_000_000;
    /// How long a stop waits for what is in flight: what container platforms grant before they kill.
    pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);
    /// Zero leaves at once.
    pub const STOP_TIMEOUT_BOUNDS: RangeInclusive<Duration> =
        Duration::ZERO..=Duration::from_secs(24 * 3600);
    /// Loopback: whoever wants to be asked from elsewhere says so.
    pub const LISTEN: &str = "127.0.0.1:8686";
    /// Longer than a broker's election or a restart takes, short enough to be woken for.
    pub const STUCK_AFTER: Duration = Duration::from_secs(60);
    /// Below a second every pause of a broker would be an alarm.
    pub const STUCK_AFTER_BOUNDS: RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
    /// Characters of the token for the HTTP port: fewer could be guessed, and more fit into no header.
    pub const HTTP_TOKEN_BOUNDS: RangeInclusive<usize> = 16..=1_024;
    /// How long a leader may be silent before a standby ends its sessions: long enough that its four sessions need to say a word twice a minute at most,
    /// and that a machine which is only slow is never taken for a frozen one.
    pub const LEADER_TIMEOUT: Duration = Duration::from_secs(120);
    /// Below two seconds a busy machine would depose leaders that live.
    pub const LEADER_TIMEOUT_BOUNDS: RangeInclusive<Duration> =
        Duration::from_secs(2)..=Duration::from_secs(24 * 3600);
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
    /// How long a leader may be silent before a standby takes it for frozen. The same for all relays of an outbox: by it each leader says how often it speaks.
    pub leader_timeout: Duration,
    /// Where questions are answered.
    pub http: Http,
    /// Where spans go.
    pub telemetry: Telemetry,
}

/// What is told to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Telemetry {
    /// The address that takes spans, as protobuf over HTTP; `None`: there are none.
    pub traces: Option<String>,
}

/// The HTTP port.
#[derive(Debug, Clone)]
pub struct Http {
    /// Where it listens.
    pub listen: Listen,
    /// Rows that wait for so long without one that got through make the relay stuck.
    pub stuck_after: Duration,
    /// Whoever has it may retry and drop dead letters; `None`: nobody may.
    pub token: Option<SecretString>,
    /// Whether the page shows the beginnings of dead letters' payloads.
    pub show_payloads: bool,
}

/// Where the HTTP port is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Nobody has said anything: [`defaults::LISTEN`], if nothing else is there. Several relays of one machine are no fault.
    Default,
    /// There, and nowhere else.
    At(String),
    /// Nowhere.
    Off,
}

impl Listen {
    /// # Errors
    /// For what is no address.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "must be HOST:PORT, such as 127.0.0.1:8686, or off";
        let text = text.trim();
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
        let bare = match host.strip_prefix('[').map(|inner| inner.strip_suffix(']')) {
            Some(inner) => inner.ok_or(FORM)?,
            None if host.contains(':') => return Err(FORM.into()),
            None => host,
        };
        let illegal = |c: char| c.is_whitespace() || c.is_control() || "/@,[]".contains(c);
        if bare.is_empty() || bare.contains(illegal) {
            return Err(FORM.into());
        }
        match port.parse::<u16>() {
            Ok(_) => Ok(Self::At(text.to_owned())),
            Err(_) => Err("has a port that is not a number from 0 to 65535".into()),
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: Listen::Default,
            stuck_after: defaults::STUCK_AFTER,
            token: None,
            show_payloads: false,
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
#[derive(Debug, Clone)]
pub struct Kafka {
    /// `host:port,host:port`. Empty when none was given and none was needed ([`super::Needs`]).
    pub brokers: String,
    /// The file with the token for OAUTHBEARER, which is read anew each time one is asked for.
    pub token_file: Option<PathBuf>,
    /// For librdkafka, as they are; none that Doorbell sets itself.
    pub properties: BTreeMap<String, SecretString>,
}

/// One outbox table and how its rows travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbox {
    /// The table.
    pub table: TableName,
    /// The topic of rows that name none.
    pub topic: Route,
    /// How often the table is looked over although nothing rang.
    pub sweep: Duration,
    /// The names of the table's columns.
    pub columns: Columns,
    /// What becomes of rows that Kafka can never take.
    pub poison: Poison,
    /// The same for rows of single topics.
    pub poison_topics: BTreeMap<String, Poison>,
    /// Most rows between fetch and delete.
    pub in_flight_rows: usize,
    /// Most bytes between fetch and delete.
    pub in_flight_bytes: usize,
    /// Most rows a second; `None`: as fast as they go.
    pub max_rate: Option<usize>,
    /// How often a consumer may see an event.
    pub delivery: Delivery,
}

/// How often a consumer may see an event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Delivery {
    /// More than once around a crash.
    #[default]
    AtLeastOnce,
    /// Once, if it reads committed records only.
    ExactlyOnce(Transactions),
}

/// What the exactly-once mode is called at the brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transactions {
    /// The producer's `transactional.id`; `None`: derived from the outbox's identity.
    pub id: Option<String>,
    /// The topic of the receipts: a template without `{type}`.
    pub receipts: Route,
}

impl Transactions {
    /// The user's own id, or one that no other outbox has, by the identity of this one.
    pub fn id_of(&self, outbox: impl std::fmt::Display) -> String {
        let id = self.id.clone();
        id.unwrap_or_else(|| format!("doorbell.{outbox}"))
    }
}

impl Default for Transactions {
    /// `doorbell.receipts.{table}`, so that no outbox waits for the transactions of another.
    fn default() -> Self {
        Self {
            id: None,
            receipts: Route::parse(defaults::RECEIPTS).unwrap_or_default(),
        }
    }
}

impl Delivery {
    /// # Errors
    /// For an unknown word: the known ones.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "at-least-once" => Ok(Self::AtLeastOnce),
            "exactly-once" => Ok(Self::ExactlyOnce(Transactions::default())),
            _ => Err(format!(
                "is unknown; {}",
                meant(text, &["at-least-once", "exactly-once"])
            )),
        }
    }
}

/// What becomes of a row that Kafka can never take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Poison {
    /// It moves to `doorbell.dead`, and the others go on.
    #[default]
    Park,
    /// It stays and is tried again; later rows of its key wait behind it, all others go on.
    HoldKey,
    /// It stays, and the relay ends rather than go past it.
    Stop,
}

impl Poison {
    /// # Errors
    /// For an unknown word: the known ones.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "park" => Ok(Self::Park),
            "hold-key" => Ok(Self::HoldKey),
            "stop" => Ok(Self::Stop),
            _ => Err(format!(
                "is unknown; {}",
                meant(text, &["park", "hold-key", "stop"])
            )),
        }
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            table: TableName::default(),
            topic: Route::default(),
            sweep: defaults::SWEEP,
            columns: Columns::default(),
            poison: Poison::default(),
            poison_topics: BTreeMap::new(),
            in_flight_rows: defaults::IN_FLIGHT_ROWS,
            in_flight_bytes: defaults::IN_FLIGHT_BYTES,
            max_rate: None,
            delivery: Delivery::default(),
        }
    }
}
