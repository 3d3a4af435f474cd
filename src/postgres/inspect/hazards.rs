//! What in the catalogue breaks a promise of the relay, or soon will: one query for the server, and
//! one for a table. A query gives the kind of hazard, what it is about, and what removes it.

use crate::config::Outbox;
use crate::postgres::error::Result;
use crate::postgres::session::{Session, from_row};

#[derive(Debug)]
pub(crate) struct Hazard {
    /// `doorbell check` has a finding for each kind.
    pub kind: String,
    pub names: Vec<String>,
    pub remedies: Vec<String>,
}

from_row! { Hazard: kind names remedies }

/// Of roles that may create objects in the search path, those that own an outbox may do more
/// anyway. A session that does not read its notifications, or is in a transaction, keeps the queue
/// from being truncated; the server does not say which does, and the oldest is the likely one. One
/// that is busy for a moment is not.
const OF_SERVER: &str = "WITH path AS (SELECT pg_catalog.unnest(pg_catalog.current_schemas(false)) AS name \
    UNION SELECT CASE pg_catalog.btrim(s, ' \"') WHEN '$user' THEN current_user ELSE pg_catalog.btrim(s, ' \"')::name END FROM pg_catalog.pg_settings p, pg_catalog.regexp_split_to_table(p.reset_val, ',') s WHERE p.name = 'search_path'), \
    found (kind, name, remedy) AS ( \
    SELECT 'open-schema', pg_catalog.format('%s by %s', n.nspname, g.who), pg_catalog.format('REVOKE CREATE ON SCHEMA %I FROM %s', n.nspname, g.who) \
    FROM pg_catalog.pg_namespace n JOIN path ON path.name = n.nspname CROSS JOIN LATERAL ( \
        SELECT pg_catalog.string_agg(CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END, ', ' ORDER BY x.grantee) AS who \
        FROM pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) x LEFT JOIN pg_catalog.pg_roles r ON r.oid = x.grantee \
        WHERE x.privilege_type = 'CREATE' AND x.grantee <> n.nspowner AND r.rolname IS DISTINCT FROM current_user AND r.rolsuper IS NOT TRUE \
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid WHERE t.tgname = 'doorbell_ring' AND c.relowner = x.grantee)) g \
    WHERE g.who IS NOT NULL \
    UNION ALL SELECT 'encoding', 'SQL_ASCII', 'dump the database, and restore it into one with ENCODING ''UTF8''' \
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database() AND pg_catalog.pg_encoding_to_char(d.encoding) = 'SQL_ASCII' \
    UNION ALL SELECT 'notify-queue', pg_catalog.format('%s %%', pg_catalog.round(u.part::numeric * 100)) || coalesce(pg_catalog.format('; its oldest part may be unread by %L (server process %s, user %s, database %s)', \
        a.application_name, a.pid, a.usename, a.datname), ''), coalesce(pg_catalog.format('SELECT pg_terminate_backend(%s)', a.pid), 'end the sessions that LISTEN and do not read') \
    FROM pg_catalog.pg_notification_queue_usage() u (part) LEFT JOIN LATERAL (SELECT * FROM pg_catalog.pg_stat_activity s WHERE s.pid <> pg_catalog.pg_backend_pid() \
        AND CASE s.wait_event WHEN 'ClientWrite' THEN s.state_change ELSE s.xact_start END < pg_catalog.clock_timestamp() - interval '5 seconds' ORDER BY s.wait_event IS DISTINCT FROM 'ClientWrite', s.xact_start LIMIT 1) a ON true \
    WHERE u.part >= 0.5) \
    SELECT kind, pg_catalog.array_agg(name ORDER BY name) AS names, pg_catalog.array_agg(DISTINCT remedy) AS remedies FROM found GROUP BY kind ORDER BY kind";

/// `t`: the table and its partitions. A trigger or a foreign key of a partitioned table has a copy
/// for each partition, with a parent. A relay may UPDATE and not INSERT; the writers that may do
/// both are meant. Only the server's own time zone is unknown, since this session has set one: both
/// it and `log_timezone` come from the machine at first.
const OF_TABLE: &str = "WITH t AS MATERIALIZED (SELECT c.*, c.oid::regclass::text AS shown FROM pg_catalog.pg_class c \
        WHERE c.oid = $1::bigint::oid OR c.oid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree($1::bigint::oid::regclass) p)), \
    place (name) AS (SELECT pg_catalog.concat_ws(' in ', 'role ' || r.rolname, 'database ' || d.datname) || ' (' || pg_catalog.split_part(v, '=', 2) || ')' \
        FROM pg_catalog.pg_db_role_setting s CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) v LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole \
        LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase WHERE v ~* '^timezone=' AND (s.setdatabase = 0 OR d.datname = pg_catalog.current_database()) \
        UNION ALL SELECT 'perhaps the server (log_timezone is ' || p.setting || ')' FROM pg_catalog.pg_settings p WHERE p.name = 'log_timezone'), \
    found (kind, name, remedy) AS ( \
    SELECT CASE WHEN g.tgtype & 11 = 11 THEN 'delete-trigger' ELSE 'update-trigger' END, pg_catalog.format('%s on %s', g.tgname, t.shown), pg_catalog.format('DROP TRIGGER %I ON %s', g.tgname, t.shown) \
    FROM pg_catalog.pg_trigger g JOIN t ON t.oid = g.tgrelid WHERE NOT g.tgisinternal AND g.tgparentid = 0 AND g.tgenabled <> 'D' AND (g.tgtype & 11 = 11 OR g.tgtype & 16 = 16) \
    UNION ALL SELECT 'foreign-key', pg_catalog.format('%s of %s', k.conname, k.conrelid::regclass), pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname) \
    FROM pg_catalog.pg_constraint k JOIN t ON t.oid = k.confrelid WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confdeltype IN ('a', 'r') \
    UNION ALL SELECT 'required-column', a.attname, pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL, or SET DEFAULT ...', t.shown, a.attname) \
    FROM t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' \
    WHERE t.oid = $1::bigint::oid AND a.attname <> ALL ($2::text[]) \
    UNION ALL SELECT 'child', i.inhrelid::regclass::text, pg_catalog.format('ALTER TABLE %s NO INHERIT %s', i.inhrelid::regclass, t.shown) \
    FROM pg_catalog.pg_inherits i JOIN t ON t.oid = i.inhparent AND t.relkind = 'r' \
    UNION ALL SELECT 'null-id', a.attname, pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', t.shown, a.attname) \
    FROM t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attname = $3 AND NOT a.attnotnull WHERE t.oid = $1::bigint::oid \
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = t.oid AND i.indisvalid AND i.indisunique AND i.indnkeyatts = 1 AND i.indkey[0] = a.attnum \
            AND pg_catalog.pg_get_expr(i.indpred, i.indrelid) = pg_catalog.format('(%I IS NOT NULL)', a.attname)) \
    UNION ALL SELECT 'local-time', place.name, pg_catalog.format('ALTER TABLE %s ALTER COLUMN %I TYPE timestamptz USING %2$I AT TIME ZONE ''UTC''', t.shown, a.attname) \
    FROM t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attname = $4 AND a.atttypid = 'pg_catalog.timestamp'::regtype \
    JOIN place ON place.name !~* '[( ](etc/)?(utc|gmt|uct|zulu|universal)\\)$' WHERE t.oid = $1::bigint::oid \
    UNION ALL SELECT 'update-right', w.who, pg_catalog.format('REVOKE UPDATE ON %s FROM %s', t.shown, w.who) FROM t CROSS JOIN LATERAL ( \
        SELECT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END AS who FROM (SELECT e.grantee, e.privilege_type FROM pg_catalog.aclexplode(t.relacl) e \
        UNION SELECT e.grantee, e.privilege_type FROM pg_catalog.pg_attribute a, pg_catalog.aclexplode(a.attacl) e WHERE a.attrelid = t.oid) x \
        WHERE x.grantee <> t.relowner GROUP BY x.grantee HAVING pg_catalog.bool_or(x.privilege_type = 'UPDATE') AND pg_catalog.bool_or(x.privilege_type = 'INSERT')) w \
    WHERE t.oid = $1::bigint::oid) \
    SELECT kind, pg_catalog.array_agg(name::text ORDER BY name) AS names, pg_catalog.array_agg(DISTINCT remedy) AS remedies FROM found GROUP BY kind ORDER BY kind";

/// Lists what the server and the database have. In a transaction.
pub(crate) async fn of_server(session: &mut Session) -> Result<Vec<Hazard>> {
    session.rows(OF_SERVER, |q| q).await
}

/// Lists what a table has. In a transaction.
pub(crate) async fn of_table(
    session: &mut Session,
    oid: u32,
    outbox: &Outbox,
) -> Result<Vec<Hazard>> {
    let columns = &outbox.columns;
    let (id, created_at) = (columns.id.clone(), columns.created_at.clone());
    let mut mapped = vec![columns.payload.clone(), id.clone()];
    mapped.extend(columns.event_type.iter().chain(&created_at).cloned());
    let optional = [&columns.key, &columns.topic, &columns.headers];
    mapped.extend(optional.map(|it| it.name().to_owned()));
    mapped.extend(outbox.kept_columns().map(str::to_owned));
    let binds = session.rows(OF_TABLE, |q| {
        q.bind(i64::from(oid))
            .bind(mapped)
            .bind(id)
            .bind(created_at)
    });
    binds.await
}
