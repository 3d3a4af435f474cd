//! A server that accepts writes, found among the hosts of DATABASE_URL.

use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions, Connection, Executor, Row};
use tokio::time::timeout;

use super::error::{Error, Result};
use crate::config::DatabaseUrl;
use crate::tls;

pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The oldest server with everything the relay uses (`CREATE OR REPLACE TRIGGER`,
/// `client_connection_check_interval`).
pub(crate) const OLDEST_SERVER: i32 = 140_000;

/// A server that accepts writes.
#[derive(Clone)]
pub struct Server {
    pub(crate) options: PgConnectOptions,
    pub(crate) shown: String,
    pub(crate) version: i32,
}

/// A server that answered, whether or not the relay can use it.
pub struct Reached {
    pub server: Server,
    /// Whether it is a standby, which accepts no writes.
    pub is_standby: bool,
}

impl Server {
    /// Asks each of the hosts what it is.
    pub async fn each(url: &DatabaseUrl) -> Vec<Result<Reached>> {
        let mut all = Vec::new();
        for host in url.per_host() {
            all.push(Self::reach(&host).await);
        }
        all
    }

    /// Returns `server_version_num`.
    pub fn version(&self) -> i32 {
        self.version
    }

    /// Tries the hosts in turn, and returns the first that is not in recovery.
    pub async fn find(url: &DatabaseUrl) -> Result<Self> {
        let mut last = Error::refused(
            "DATABASE_URL names no host",
            "write postgres://user@host:5432/database",
        );
        for host in url.per_host() {
            match Self::probe(&host).await {
                Ok(server) => return Ok(server),
                // A standby answered and the primary did not: report the primary.
                Err(error) if matches!(last, Error::Unreachable { .. }) && error.is_permanent() => {
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn probe(url: &SecretString) -> Result<Self> {
        let Reached { server, is_standby } = Self::reach(url).await?;
        let shown = &server.shown;
        if server.version < OLDEST_SERVER {
            return Err(Error::refused(
                format!("PostgreSQL {shown} is version {}", server.version / 10_000),
                "Doorbell needs PostgreSQL 14 or newer",
            ));
        }
        if is_standby {
            return Err(Error::refused(
                format!("PostgreSQL {shown} is a standby server (in recovery)"),
                "name the primary in DATABASE_URL, or several hosts",
            ));
        }
        Ok(server)
    }

    async fn reach(url: &SecretString) -> Result<Reached> {
        let options: PgConnectOptions = url
            .expose_secret()
            .parse::<PgConnectOptions>()
            .map_err(|_| {
                Error::refused(
                    "DATABASE_URL cannot be read",
                    "write postgres://user@host:5432/database",
                )
            })?
            .disable_statement_logging();
        let options = verifying(options);
        let (host, port) = (options.get_host(), options.get_port());
        let shown = match options.get_socket() {
            Some(folder) => format!("{}/.s.PGSQL.{port}", folder.display()),
            None => format!("{host}:{port}"),
        };
        // The driver leaves an IPv6 address in its brackets, which no resolver knows. Without them
        // the options have no URL any more.
        let address = options.get_host().trim_matches(['[', ']']).to_owned();
        let options = options.host(&address);
        let away = |reason: String| Error::Unreachable {
            server: shown.clone(),
            reason,
        };
        let attempt = timeout(CONNECT_DEADLINE, PgConnection::connect_with(&options)).await;
        let mut connection = match attempt {
            Err(_) => {
                return Err(away(format!(
                    "no answer within {} s",
                    CONNECT_DEADLINE.as_secs()
                )));
            }
            Ok(Err(error)) => return Err(connect_error(error, &options, &shown)),
            Ok(Ok(connection)) => connection,
        };
        let row = timeout(
            CONNECT_DEADLINE,
            connection.fetch_one("SELECT pg_catalog.current_setting('server_version_num')::int, pg_catalog.pg_is_in_recovery()"),
        )
        .await
        .map_err(|_| away("no answer to the first statement".into()))??;
        let (version, is_standby) = (row.try_get(0)?, row.try_get(1)?);
        connection.close().await.ok();
        let server = Self {
            options,
            shown,
            version,
        };
        Ok(Reached { server, is_standby })
    }

    /// Returns the options of a connection whose `application_name` says what it is for.
    pub fn options(&self, purpose: &str) -> PgConnectOptions {
        self.options
            .clone()
            .application_name(&session_name(purpose))
    }

    /// Returns `host:port`.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

/// Returns the `application_name` of a session: version, purpose and process id. Processes in
/// containers behind one address have the same id; a word that is drawn at the start, behind the
/// version, tells them apart.
pub(crate) fn session_name(purpose: &str) -> String {
    static WORD: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()) & 0xf_ffff);
    let (version, process) = (env!("CARGO_PKG_VERSION"), std::process::id());
    format!("doorbell {version}+{:05x} {purpose} {process}", *WORD)
}

/// With `sslrootcert` set, `require` means `verify-ca`, as in libpq. The driver would accept any
/// certificate.
fn verifying(options: PgConnectOptions) -> PgConnectOptions {
    let names_roots = options
        .to_url_lossy()
        .query_pairs()
        .any(|(key, _)| key == "sslrootcert");
    match options.get_ssl_mode() {
        PgSslMode::Require if names_roots => options.ssl_mode(PgSslMode::VerifyCa),
        _ => options,
    }
}

/// Tells failures to connect that waiting cannot cure from those that pass.
pub(crate) fn connect_error(error: sqlx::Error, options: &PgConnectOptions, shown: &str) -> Error {
    let text = error.to_string();
    let unreachable = |reason| Error::Unreachable {
        server: shown.to_owned(),
        reason,
    };
    if let sqlx::Error::Io(io) = &error
        && let Some(why) = tls::distrust(io, "sslrootcert")
    {
        let problem = format!("TLS with PostgreSQL {shown} failed: {}", why.problem);
        return Error::refused(problem, why.remedy);
    }
    match error {
        // No connection over TCP fails like this: it is a file of certificates that a variable
        // names.
        sqlx::Error::Io(ref io)
            if matches!(io.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
                && options.get_socket().is_none() =>
        {
            Error::refused(
                format!("a file for TLS with PostgreSQL {shown} cannot be read: {io}"),
                "check sslrootcert, sslcert and sslkey, and PGSSLROOTCERT, PGSSLCERT and PGSSLKEY",
            )
        }
        sqlx::Error::Io(ref io)
            if text.contains("failed to lookup address")
                || text.contains("Name or service not known") =>
        {
            // A name that is new, or a resolver that starts with the machine: waiting may help.
            unreachable(format!("its host cannot be resolved: {io}"))
        }
        // The zero is what sqlx has read where a proxy, or a server that stops, closes at once.
        sqlx::Error::Protocol(_) if text.contains("SSLRequest: 0x00") => {
            unreachable("it closed the connection without an answer".to_owned())
        }
        sqlx::Error::Protocol(_) if text.contains("SSLRequest") => Error::refused(
            format!("{shown} answers, and does not speak PostgreSQL"),
            "check host and port in DATABASE_URL",
        ),
        sqlx::Error::Tls(_) => Error::refused(
            format!("TLS with PostgreSQL {shown} failed: {text}"),
            "check sslmode and the certificates",
        ),
        sqlx::Error::Configuration(_) => Error::refused(
            format!("DATABASE_URL cannot be used: {text}"),
            "check its parameters",
        ),
        sqlx::Error::Database(_) => match Error::from(error) {
            Error::Lost(reason) => unreachable(reason),
            Error::Refused { problem, remedy } if problem.contains("password") => {
                let remedy = match loose_password_file() {
                    None => remedy,
                    Some(path) => format!(
                        "chmod 600 {path}: others may read this file of passwords, so it was ignored; or {remedy}"
                    ),
                };
                Error::Refused { problem, remedy }
            }
            other => other,
        },
        _ => unreachable(text),
    }
}

/// Returns the file of passwords whose permissions make the driver ignore it, as libpq does.
fn loose_password_file() -> Option<String> {
    let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    let path = named.or_else(|| Some(std::env::home_dir()?.join(".pgpass")))?;
    let mode = std::fs::metadata(&path).ok()?.permissions().mode();
    (mode & 0o77 != 0).then(|| path.display().to_string())
}
