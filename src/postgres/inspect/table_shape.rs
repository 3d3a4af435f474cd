//! The table as the catalogue describes it.

use sqlx::Row;

use super::hazards::{Hazard, of_table};
use super::sequence::{Sequence, sequence};
use crate::config::Outbox;
use crate::postgres::admin::schema;
use crate::postgres::error::Result;
use crate::postgres::session::{Place, Session};
use crate::postgres::table::Trigger;

#[derive(Debug)]
pub(crate) struct TableShape {
    pub oid: u32,
    /// Name with its schema, quoted where SQL needs it.
    pub quoted: String,
    /// Whether a crash of the server empties the table.
    pub unlogged: bool,
    pub trigger: Trigger,
    /// Whether the trigger also fires for sessions with `session_replication_role = replica`.
    pub trigger_always: bool,
    /// Partitions that hold rows.
    pub partitions: Vec<String>,
    pub subscriptions: Vec<String>,
    /// Publications that include the table, or a partition of it.
    pub publications: Vec<String>,
    /// Whether a publication includes its deletes and the table has no replica identity: then no
    /// row can be deleted.
    pub deletes_impossible: bool,
    /// Whether row security hides rows from the role.
    pub row_security: bool,
    /// Rules that change what a statement does.
    pub rules: Vec<String>,
    /// Storage parameters of the migration that the table, or a partition of it, lacks.
    pub storage_missing: Vec<String>,
    pub autovacuum_off: Vec<String>,
    /// Whether a column is mapped to `created_at`.
    pub has_created_at: bool,
    pub created_at_default: Option<String>,
    pub sequence: Option<Sequence>,
    pub hazards: Vec<Hazard>,
}

/// `t`: the table and all of its partitions. A table without partitions is in no tree.
const SHAPE: &str = "WITH t AS MATERIALIZED (SELECT c.* FROM pg_catalog.pg_class c WHERE c.oid = $1::bigint::oid OR c.oid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree($1::bigint::oid::regclass) p)) \
    SELECT EXISTS (SELECT FROM t WHERE t.relpersistence = 'u') AS unlogged, g.tgenabled::text AS trigger, \
    coalesce(g.tgqual IS NULL AND g.tgtype = 4 AND g.tgfoid = pg_catalog.to_regprocedure('doorbell.ring()') AND f.prosrc LIKE '%pg_try_advisory_xact_lock_shared%', false) AS current, \
    ARRAY(SELECT t.oid::regclass::text FROM t WHERE t.oid <> c.oid AND t.relkind IN ('r', 'f') ORDER BY 1) AS partitions, \
    ARRAY(SELECT DISTINCT s.subname::text FROM pg_catalog.pg_subscription_rel r JOIN pg_catalog.pg_subscription s ON s.oid = r.srsubid JOIN t ON t.oid = r.srrelid ORDER BY 1) AS subscriptions, \
    ARRAY(SELECT DISTINCT p.pubname::text FROM pg_catalog.pg_publication_tables p JOIN t ON t.relname = p.tablename \
          JOIN pg_catalog.pg_namespace m ON m.oid = t.relnamespace AND m.nspname = p.schemaname ORDER BY 1) AS publications, \
    EXISTS (SELECT FROM t JOIN pg_catalog.pg_namespace m ON m.oid = t.relnamespace \
          JOIN pg_catalog.pg_publication_tables pt ON pt.tablename = t.relname AND pt.schemaname = m.nspname \
          JOIN pg_catalog.pg_publication p ON p.pubname = pt.pubname AND p.pubdelete WHERE t.relkind = 'r' AND (t.relreplident = 'n' \
          OR t.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = t.oid AND i.indisprimary))) AS deletes_impossible, \
    pg_catalog.row_security_active(c.oid) AS row_security, \
    ARRAY(SELECT r.rulename::text FROM pg_catalog.pg_rewrite r JOIN t ON t.oid = r.ev_class ORDER BY 1) AS rules, \
    ARRAY(SELECT t.oid::regclass::text FROM t LEFT JOIN pg_catalog.pg_class o ON o.oid = t.reltoastrelid WHERE EXISTS (SELECT FROM unnest(t.reloptions || o.reloptions) s \
          WHERE s LIKE 'autovacuum_enabled=%' AND lower(split_part(s, '=', 2)) IN ('false', 'off', 'no', '0', 'f', 'n')) ORDER BY 1) AS autovacuum_off, \
    ARRAY(SELECT DISTINCT w FROM t CROSS JOIN unnest($3::text[]) w WHERE t.relkind = 'r' AND NOT w = ANY (coalesce(t.reloptions, '{}')) ORDER BY 1) AS storage_missing, \
    (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
          WHERE a.attrelid = c.oid AND a.attname = $2) AS created_at_default \
    FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_trigger g ON g.tgrelid = c.oid AND g.tgname = 'doorbell_ring' LEFT JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid \
    WHERE c.oid = $1::bigint::oid";

/// Looks up a table. `None`: no table of this name is visible to the role.
pub(crate) async fn table_shape(
    session: &mut Session,
    outbox: &Outbox,
) -> Result<Option<TableShape>> {
    let columns = &outbox.columns;
    let Some(Place { oid, quoted, .. }) = session.place(&outbox.table).await? else {
        return Ok(None);
    };
    let created_at = columns.created_at.clone();
    session
        .reading(async |session| {
            let rows = session
                .all(SHAPE, |q| {
                    q.bind(i64::from(oid))
                        .bind(created_at)
                        .bind(schema::storage_parameters())
                })
                .await?;
            let Some(row) = rows.first() else {
                return Ok(None);
            };
            let enabled: Option<String> = row.try_get("trigger")?;
            Ok(Some(TableShape {
                oid,
                quoted,
                unlogged: row.try_get("unlogged")?,
                trigger: Trigger::of(enabled.as_deref(), row.try_get("current")?),
                trigger_always: enabled.as_deref() == Some("A"),
                partitions: row.try_get("partitions")?,
                subscriptions: row.try_get("subscriptions")?,
                publications: row.try_get("publications")?,
                deletes_impossible: row.try_get("deletes_impossible")?,
                row_security: row.try_get("row_security")?,
                rules: row.try_get("rules")?,
                storage_missing: row.try_get("storage_missing")?,
                autovacuum_off: row.try_get("autovacuum_off")?,
                has_created_at: columns.created_at.is_some(),
                created_at_default: row.try_get("created_at_default")?,
                sequence: sequence(session, oid, &columns.id).await?,
                hazards: of_table(session, oid, outbox).await?,
            }))
        })
        .await
}

/// Returns whether the table is registered in the schema `doorbell`, which must exist and be
/// readable.
pub(crate) async fn is_registered(session: &mut Session, shape: &TableShape) -> Result<bool> {
    const REGISTERED: &str = "SELECT EXISTS (SELECT FROM doorbell.outbox WHERE name = $1)";
    let name = shape.quoted.clone();
    session
        .reading(async |session| session.value(REGISTERED, |q| q.bind(name)).await)
        .await
}
