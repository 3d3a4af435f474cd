//! What can go wrong with PostgreSQL, told apart by what the caller can do about it.

use sqlx::postgres::PgDatabaseError;

/// A failure at PostgreSQL's side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server cannot be reached, or does not answer in time: waiting helps.
    #[error("PostgreSQL {server} cannot be reached: {reason}")]
    Away {
        /// The address, without secrets.
        server: String,
        /// What was seen, in one line.
        reason: String,
    },
    /// An open session ended: build it anew.
    #[error("a session with PostgreSQL was lost: {0}")]
    Lost(String),
    /// The server refuses, and will go on refusing until somebody changes something.
    #[error("{problem}; {remedy}")]
    Refused {
        /// What is wrong.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
    /// A statement failed for a reason that may pass.
    #[error("PostgreSQL: {message} (SQLSTATE {code})")]
    Statement {
        /// The SQLSTATE.
        code: String,
        /// The server's message.
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

    /// Whether a statement gave up waiting for somebody else's lock.
    pub(crate) fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Statement { code, .. } if code == "55P03")
    }

    /// Whether waiting cannot help: at the start of a program this ends it.
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
        let hint = database
            .try_downcast_ref::<PgDatabaseError>()
            .and_then(|e| e.hint());
        match code.as_str() {
            // class 57P: the server is shutting down, starting up, or an administrator ended the session
            c if c.starts_with("57P") => Self::Lost(message),
            "28P01" | "28000" => {
                Self::refused(message, "check the user, the password and pg_hba.conf")
            }
            "3D000" => Self::refused(message, "check the database's name in DATABASE_URL"),
            "42501" => Self::refused(
                message,
                "grant it to the role in DATABASE_URL; sql/roles.sql lists what writers, relays and operators need",
            ),
            "42P01" | "3F000" | "42883" => Self::refused(message, "run `doorbell migrate`"),
            "42703" => Self::refused(message, "map the column under [outbox.columns], or add it"),
            "25006" => Self::refused(message, "connect to the primary server, not to a replica"),
            _ => Self::Statement {
                code,
                message: hint.map_or(message.clone(), |hint| format!("{message}. {hint}")),
            },
        }
    }
}

/// What PostgreSQL's side gives back.
pub type Result<T> = std::result::Result<T, Error>;
