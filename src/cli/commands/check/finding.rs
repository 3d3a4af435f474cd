//! Findings: code, severity and remedy.

use serde::{Serialize, Serializer};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// Something does not work: exit code 1.
    Error,
    /// It works, with a consequence that the operator may not expect.
    Warning,
    Note,
}

impl Severity {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) code: Code,
    /// Outbox that it concerns; `None` for the server or the brokers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outbox: Option<String>,
    pub(super) what: String,
    pub(super) why: String,
    pub(super) remedy: String,
    /// What `--fix` runs.
    #[serde(skip)]
    pub(super) fix: Option<Fix>,
}

/// Repair by `--fix`: it adds what is missing and corrects settings, and removes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fix {
    /// `doorbell migrate` for the outbox.
    Migrate,
    Sql(String),
}

/// Constructors of findings, one for each severity.
macro_rules! severities {
    ($($name:ident $severity:ident,)*) => {
        $(pub(super) fn $name(
            code: Code,
            what: impl Into<String>,
            why: &str,
            remedy: impl Into<String>,
        ) -> Self {
            Self::new(Severity::$severity, code, what, why, remedy)
        })*
    };
}

impl Finding {
    pub(super) fn new(
        severity: Severity,
        code: Code,
        what: impl Into<String>,
        why: &str,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            code,
            outbox: None,
            what: what.into(),
            why: why.to_owned(),
            remedy: remedy.into(),
            fix: None,
        }
    }

    severities! { error Error, warning Warning, note Note, }

    pub(super) fn of(mut self, outbox: &str) -> Self {
        self.outbox = Some(outbox.to_owned());
        self
    }

    /// `--fix` can run the migration for it.
    pub(super) fn migrates(mut self) -> Self {
        self.fix = Some(Fix::Migrate);
        self
    }

    /// `--fix` can run the remedy, which is one statement.
    pub(super) fn runs_remedy(mut self) -> Self {
        self.fix = Some(Fix::Sql(self.remedy.clone()));
        self
    }
}

/// Names that stay the same from version to version; `docs/check.md` has a section for each.
macro_rules! codes {
    ($($name:ident $text:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Code { $($name,)* }

        impl Code {
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$name,)*];

            pub(super) fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

codes! {
    // the server
    PostgresAway "postgres-away",
    PostgresRefused "postgres-refused",
    StatementFailed "statement-failed",
    PostgresPlaintext "postgres-plaintext",
    PostgresVersion "postgres-version",
    PostgresStandby "postgres-standby",
    HostAway "host-away",
    Pooler "pooler",
    ClockSkew "clock-skew",
    Connections "connections",
    ReadOnly "read-only",
    Encoding "encoding",
    SearchPath "search-path",
    NotifyQueue "notify-queue",
    CommitsUnwaited "commits-unwaited",
    ServerSettings "server-settings",
    ReplicaRole "replica-role",
    TwoPhase "two-phase",
    SeesLittle "sees-little",
    SnapshotHeld "snapshot-held",
    // the table
    SchemaMissing "schema-missing",
    SchemaEarlier "schema-earlier",
    TableMissing "table-missing",
    TableUnfit "table-unfit",
    TableLocked "table-locked",
    NotRegistered "not-registered",
    IdNotUnique "id-not-unique",
    NotBeforeIndex "not-before-index",
    Unlogged "unlogged",
    TriggerMissing "trigger-missing",
    TriggerDisabled "trigger-disabled",
    TriggerEarlier "trigger-earlier",
    Partitions "partitions",
    Subscription "subscription",
    Published "published",
    DeletesImpossible "deletes-impossible",
    DeletesKept "deletes-kept",
    ForeignKeys "foreign-keys",
    RowsChange "rows-change",
    ColumnRequired "column-required",
    RowSecurity "row-security",
    Rules "rules",
    Storage "storage",
    AutovacuumOff "autovacuum-off",
    CreatedAt "created-at",
    SequenceCache "sequence-cache",
    SequenceCycles "sequence-cycles",
    SequenceStep "sequence-step",
    SequenceBehind "sequence-behind",
    SequenceEnd "sequence-end",
    SequenceMissing "sequence-missing",
    RightsMissing "rights-missing",
    RightsSuperfluous "rights-superfluous",
    FetchPlan "fetch-plan",
    // what goes on
    LeaderStranger "leader-stranger",
    BellStranger "bell-stranger",
    OrderStranger "order-stranger",
    SilentWriter "silent-writer",
    Paused "paused",
    NoLeader "no-leader",
    OtherVersion "other-version",
    FrozenTakeover "frozen-takeover",
    DeadLetters "dead-letters",
    KeysHeld "keys-held",
    RowsKept "rows-kept",
    Stuck "stuck",
    // Kafka
    KafkaAway "kafka-away",
    KafkaRefused "kafka-refused",
    KafkaPlaintext "kafka-plaintext",
    KafkaListeners "kafka-listeners",
    KafkaIdentity "kafka-identity",
    TopicName "topic-name",
    TopicMissing "topic-missing",
    TopicForbidden "topic-forbidden",
    TopicStuck "topic-stuck",
    TopicLeaderless "topic-leaderless",
    TopicUntold "topic-untold",
    TopicTooSmall "topic-too-small",
    TopicLarger "topic-larger",
    RowTooLarge "row-too-large",
    TopicCopies "topic-copies",
    TopicMinInsync "topic-min-insync",
    TopicCompacted "topic-compacted",
    TopicTimes "topic-times",
    TopicRetention "topic-retention",
    TopicsByType "topics-by-type",
    TransactionsForbidden "transactions-forbidden",
    TransactionsUntold "transactions-untold",
    TransactionsShort "transactions-short",
    ReceiptsForbidden "receipts-forbidden",
    ReceiptsUnfit "receipts-unfit",
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_a_section_for_each_code_and_no_other() {
        let page = include_str!("../../../../docs/check.md");
        let sections: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'))
            .collect();
        let codes: Vec<&str> = Code::ALL.iter().map(|code| code.text()).collect();
        assert_eq!(sections, codes);
    }
}
