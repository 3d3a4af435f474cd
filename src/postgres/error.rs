//! Failures of PostgreSQL, by what the caller can do about them.

use sqlx::postgres::PgDatabaseError;

/// PostgreSQL's triggered_data_change_violation.
const CHANGED_BY_TRIGGER: &str = "27000";

/// A failure of PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server is unreachable, or does not answer in time. Waiting helps.
    #[error("PostgreSQL {server} is unreachable: {reason}")]
    Unreachable {
        /// Address of the server, without secrets.
        server: String,
        /// What happened, in one line.
        reason: String,
    },
    /// A session ended. A new one must be opened.
    #[error("a session with PostgreSQL was lost: {0}")]
    Lost(String),
    /// The server refuses, and will refuse until an operator changes something.
    #[error("{problem}; {remedy}")]
    Refused { problem: String, remedy: String },
    /// A statement failed for a reason that may pass.
    #[error("PostgreSQL: {message} (SQLSTATE {code})")]
    Statement {
        /// SQLSTATE.
        code: String,
        /// Message of the server.
        message: String,
    },
}

impl Error {
    pub(crate) fn refused(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Refused {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// The server has no connection left for the relay.
    pub(crate) fn out_of_connections(message: String) -> Self {
        let code = "53300".into();
        Self::Statement { code, message }
    }

    /// A delete that was rolled back, since the rows would have come again as others.
    pub(crate) fn changed_by_trigger() -> Self {
        Self::Statement {
            code: CHANGED_BY_TRIGGER.into(),
            message: "a trigger changes created_at where the relay deletes a row: drop it".into(),
        }
    }

    pub(crate) fn is_changed_by_trigger(&self) -> bool {
        matches!(self, Self::Statement { code, .. } if code == CHANGED_BY_TRIGGER)
    }

    pub(crate) fn is_out_of_connections(&self) -> bool {
        matches!(self, Self::Statement { code, .. } if code == "53300")
    }

    pub(crate) fn is_unsupported(&self) -> bool {
        matches!(self, Self::Statement { code, .. } if code == "0A000")
    }

    pub(crate) fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Statement { code, .. } if code == "55P03")
    }

    pub(crate) fn is_deadlock(&self) -> bool {
        matches!(self, Self::Statement { code, .. } if code == "40P01")
    }

    /// Returns whether a statement may have failed for what is in a row, or hangs on it: its data,
    /// constraints, or triggers, which may raise any SQLSTATE.
    pub(crate) fn is_about_a_row(&self) -> bool {
        // Classes of SQLSTATE: connections, the state of transactions and statements, logins,
        // conflicts with others, resources, objects in use, operators, damage.
        const OTHERS: [&str; 10] = ["08", "25", "26", "28", "40", "53", "55", "57", "58", "XX"];
        matches!(self, Self::Statement { code, .. } if !OTHERS.iter().any(|class| code.starts_with(class)))
    }

    /// Returns whether a statement that reads may have failed for one of its rows: for a character
    /// without an equivalent, damage, a text beyond the server's limits, or because it took long.
    pub(crate) fn may_be_a_row(&self) -> bool {
        const CODES: [&str; 4] = ["53200", "54000", "57014", "58030"];
        matches!(self, Self::Statement { code, .. }
            if CODES.contains(&code.as_str()) || code.starts_with("22") || code.starts_with("XX"))
    }

    /// Returns whether the server ended a statement because it took too long.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self, Self::Statement { code, .. } if code == "57014")
    }

    /// Returns whether waiting cannot help. At the start of a program such an error ends it.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else {
            return Self::Lost(error.to_string());
        };
        let code = database.code().unwrap_or_default().into_owned();
        let message = database.message().to_owned();
        let details = database.try_downcast_ref::<PgDatabaseError>();
        let hint = details.and_then(PgDatabaseError::hint);
        let function = details.and_then(|it| it.r#where()?.lines().next());
        match code.as_str() {
            // Class 57P: the server is shutting down or starting up, or an administrator terminated
            // the session.
            c if c.starts_with("57P") => Self::Lost(message),
            "28P01" | "28000" => {
                Self::refused(message, "check the user, the password and pg_hba.conf")
            }
            "3D000" => Self::refused(message, "check the database's name in DATABASE_URL"),
            "42501" if function.is_none() => Self::refused(
                message,
                "grant it to the role in DATABASE_URL; sql/roles.sql lists what writers, relays and operators need",
            ),
            "57014" => Self::Statement {
                code,
                message: "the statement took too long, or was cancelled: it waited for a lock, or read very much".into(),
            },
            "42P01" | "3F000" | "42883" => match function {
                None => Self::refused(message, "run `doorbell migrate`"),
                Some(function) => Self::Statement {
                    code,
                    message: format!(
                        "{message}, in {function}; triggers of the table need names with their schema, or a SET search_path"
                    ),
                },
            },
            "42703" => Self::refused(message, "map the column under [outbox.columns], or add it"),
            "25006" => Self::refused(
                message,
                "connect to the primary server, not to a replica; or default_transaction_read_only is on: ALTER ROLE or ALTER DATABASE ... RESET default_transaction_read_only",
            ),
            _ => Self::Statement {
                code,
                message: hint.map_or(message.clone(), |hint| format!("{message}. {hint}")),
            },
        }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Error>;
