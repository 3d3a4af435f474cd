//! The server, and what the role may do on it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sqlx::Row;

use super::hazards::{Hazard, of_server};
use crate::postgres::error::Result;
use crate::postgres::session::Session;

#[derive(Debug)]
pub(crate) struct ServerInfo {
    pub version: String,
    pub role: String,
    pub database: String,
    /// How far the server's clock is ahead of this machine's, in seconds, and the error of that
    /// figure.
    pub clock_ahead: (f64, f64),
    /// Roles, databases, or the server, with `synchronous_commit = off`.
    pub commits_unwaited: Vec<String>,
    /// Whether transactions of the role are read-only unless they say otherwise.
    pub read_only: bool,
    /// Roles, databases, or the server, with `session_replication_role = replica`, where ordinary
    /// triggers do not fire.
    pub triggers_silent: Vec<String>,
    pub hazards: Vec<Hazard>,
    /// Server settings that are off and should be on.
    pub switched_off: Vec<String>,
    /// `max_prepared_transactions`.
    pub prepared_transactions: i64,
    /// Connections that the role may still open, and the limit that says so.
    pub connections_left: (i64, String),
    /// Whether the role may see what other roles' sessions do.
    pub sees_sessions: bool,
}

/// A limit that is NULL does not exist. Only sessions of clients count as connections, and not
/// those of this program.
const FACTS: &str = "SELECT pg_catalog.current_setting('server_version') AS version, pg_catalog.quote_ident(current_user) AS role, pg_catalog.quote_ident(d.datname) AS database, \
    pg_catalog.current_setting('max_prepared_transactions')::bigint AS prepared, \
    pg_catalog.current_setting('default_transaction_read_only') = 'on' AS read_only, \
    r.rolsuper OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') AS sees, \
    ARRAY(SELECT s FROM unnest(ARRAY['fsync', 'autovacuum', 'track_counts', 'full_page_writes']) s WHERE pg_catalog.current_setting(s) = 'off') AS off, \
    pg_catalog.current_setting('max_connections')::bigint - CASE WHEN r.rolsuper THEN 0 ELSE pg_catalog.current_setting('superuser_reserved_connections')::bigint \
    + coalesce(pg_catalog.current_setting('reserved_connections', true)::bigint, 0) END - u.used AS server_left, \
    CASE WHEN NOT r.rolsuper AND r.rolconnlimit >= 0 THEN r.rolconnlimit - u.by_role END AS role_left, \
    CASE WHEN NOT r.rolsuper AND d.datconnlimit >= 0 THEN d.datconnlimit - u.by_database END AS database_left \
    FROM pg_catalog.pg_roles r, pg_catalog.pg_database d, LATERAL (SELECT count(*) AS used, count(*) FILTER (WHERE a.usesysid = r.oid) AS by_role, \
    count(*) FILTER (WHERE a.datid = d.oid) AS by_database FROM pg_catalog.pg_stat_activity a \
    WHERE a.datid IS NOT NULL AND coalesce(a.backend_type, 'client backend') = 'client backend' \
    AND NOT coalesce(pg_catalog.starts_with(a.application_name, pg_catalog.split_part(pg_catalog.current_setting('application_name'), ' check', 1) || ' check'), false)) u \
    WHERE r.rolname = current_user AND d.datname = pg_catalog.current_database()";

/// Where a setting was given a value: for a role, a database, a role in a database, or the server.
const GIVEN: &str = "SELECT concat_ws(' in ', 'role ' || r.rolname, 'database ' || d.datname)::text FROM pg_catalog.pg_db_role_setting s \
    LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase \
    WHERE (s.setdatabase = 0 OR d.datname = pg_catalog.current_database()) AND $1 = ANY (s.setconfig) \
    UNION ALL SELECT 'the server' FROM pg_catalog.pg_settings s WHERE s.name || '=' || s.setting = $1 AND s.source NOT IN ('database', 'user', 'database user', 'session') \
    ORDER BY 1";

pub(crate) async fn server_info(session: &mut Session) -> Result<ServerInfo> {
    let clock_ahead = clock_ahead(session).await?;
    session
        .reading(async |session| {
            let row = session.one(FACTS, |q| q).await?;
            let mut left = Vec::new();
            for (column, limit) in [
                ("server_left", "max_connections of the server"),
                ("role_left", "CONNECTION LIMIT of the role"),
                ("database_left", "CONNECTION LIMIT of the database"),
            ] {
                if let Some(number) = row.try_get::<Option<i64>, _>(column)? {
                    left.push((number, limit.to_owned()));
                }
            }
            Ok(ServerInfo {
                version: row.try_get("version")?,
                role: row.try_get("role")?,
                database: row.try_get("database")?,
                clock_ahead,
                commits_unwaited: given(session, "synchronous_commit=off").await?,
                read_only: row.try_get("read_only")?,
                hazards: of_server(session).await?,
                triggers_silent: given(session, "session_replication_role=replica").await?,
                switched_off: row.try_get("off")?,
                prepared_transactions: row.try_get("prepared")?,
                connections_left: left.into_iter().min().unwrap_or_default(),
                sees_sessions: row.try_get("sees")?,
            })
        })
        .await
}

async fn given(session: &mut Session, setting: &str) -> Result<Vec<String>> {
    session.values(GIVEN, |q| q.bind(setting.to_owned())).await
}

/// The server answered at some time between the question and the answer: the middle, with half of
/// the time as the error.
async fn clock_ahead(session: &mut Session) -> Result<(f64, f64)> {
    const CLOCK: &str =
        "SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())::float8";
    let asked = SystemTime::now();
    let begun = Instant::now();
    let theirs: f64 = session.one_plain(CLOCK).await?.try_get(0)?;
    let half = begun.elapsed().as_secs_f64() / 2.0;
    let ours = asked
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
        + half;
    Ok((theirs - ours, half))
}
