//! Queries the database and the brokers, and goes on as far as the answers allow: one problem does
//! not hide the others.

use std::time::Duration;

use serde::Serialize;

use super::finding::Finding;
use super::once::{self, Transacting};
use super::settings::Wanted;
use super::topics;
use super::traffic::Relaying;
use super::{ids, privileges, server, table, traffic};
use crate::cli::exit::Failure;
use crate::config::{Delivery, Outbox, RecordTime, Route, Settings, check_topic};
use crate::kafka::{self, AclAnswer, ClientConfigError, Cluster, InspectError, TopicState};
use crate::numbers::counted;
use crate::postgres::inspect::{self, Sample, ServerInfo, TableShape};
use crate::postgres::{self, DueColumns, Error, Server, Session, Table, hears_itself};
use crate::relay::{Destination, Routes};

/// Topics that are examined: each costs the brokers several requests.
const MAX_TOPICS: usize = 50;

#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) looked_at: Vec<String>,
    pub(super) findings: Vec<Finding>,
}

pub(super) async fn examine(settings: &Settings, old: Duration) -> Result<Report, Failure> {
    let mut report = Report::default();
    let mut wanted = Vec::new();
    let mut transacting: Vec<_> = settings.outboxes.iter().filter_map(transacts).collect();
    let (findings, reached) = server::hosts(Server::each(&settings.database.url).await);
    report.findings.extend(findings);
    let open = settings.database.url.in_plain();
    report
        .findings
        .extend(open.as_deref().map(server::plaintext));
    match reached {
        Some(reached) => {
            let mut looking = Looking {
                settings,
                old,
                report: &mut report,
                wanted: &mut wanted,
                transacting: &mut transacting,
                sessions: 0,
            };
            if let Err(error) = looking.database(&reached.server).await {
                report.findings.push(server::unusable(&error));
            }
        }
        None => wanted.extend(settings.outboxes.iter().flat_map(of_routes)),
    }
    brokers(settings, &wanted, &transacting, &mut report).await?;
    report.findings.sort_by_key(|finding| finding.severity);
    Ok(report)
}

struct Looking<'a> {
    settings: &'a Settings,
    old: Duration,
    report: &'a mut Report,
    wanted: &'a mut Vec<Wanted>,
    transacting: &'a mut Vec<Transacting>,
    /// Sessions that relays still have to open.
    sessions: i64,
}

impl Looking<'_> {
    async fn database(&mut self, server: &Server) -> Result<(), Error> {
        let mut session = Session::open(server, "check").await?;
        session.wait_briefly();
        let mut other = Session::open(server, "check bell").await?;
        // A channel that no other session listens to.
        let channel = format!("doorbell:check:{}", std::process::id());
        match hears_itself(&mut other, &mut session, &channel).await {
            Ok(true) => {}
            Ok(false) => self.report.findings.push(server::pooler()),
            // The queue of notifications is full.
            Err(error @ Error::Statement { .. }) => {
                self.report.findings.push(server::unusable(&error));
            }
            Err(error) => return Err(error),
        }
        drop(other);
        let schema = postgres::schema_differences(&mut session).await?;
        let first = self.settings.outboxes.first();
        if let (Some(finding), Some(outbox)) = (table::schema(schema.as_deref()), first) {
            let finding = finding.of(&outbox.table.to_string());
            self.report.findings.push(finding);
        }
        let surroundings = inspect::server_info(&mut session).await?;
        self.report.looked_at.push(format!(
            "PostgreSQL {} at {}, database {}, as role {}",
            surroundings.version,
            server.shown(),
            surroundings.database,
            surroundings.role
        ));
        for outbox in &self.settings.outboxes {
            let examined = self.table(&mut session, outbox, &surroundings, schema.is_some());
            match examined.await {
                Err(error @ (Error::Lost(_) | Error::Unreachable { .. })) => return Err(error),
                Err(error) => self.failed(&mut session, outbox, &error).await?,
                Ok(()) => {}
            }
        }
        let pins = inspect::old_snapshots(&mut session, self.old).await?;
        self.report.findings.extend(pins.iter().map(server::pin));
        let found = server::surroundings(&surroundings, self.sessions);
        self.report.findings.extend(found);
        Ok(())
    }

    /// Reports a statement that failed for one outbox. The others are examined all the same.
    async fn failed(
        &mut self,
        session: &mut Session,
        outbox: &Outbox,
        error: &Error,
    ) -> Result<(), Error> {
        let name = outbox.table.to_string();
        let holders = match error.is_lock_timeout() {
            true => inspect::table_holders(session, &outbox.table).await?,
            false => Vec::new(),
        };
        let finding = match holders.first() {
            Some(holder) => server::table_locked(&name, holder),
            None => server::unusable(error),
        };
        self.add(&name, [finding]);
        self.wanted.extend(of_routes(outbox));
        Ok(())
    }

    async fn table(
        &mut self,
        session: &mut Session,
        outbox: &Outbox,
        surroundings: &ServerInfo,
        has_schema: bool,
    ) -> Result<(), Error> {
        let name = outbox.table.to_string();
        let Some(shape) = inspect::table_shape(session, outbox).await? else {
            let elsewhere = session
                .reading(async |session| postgres::elsewhere(session, &outbox.table).await)
                .await?;
            let finding = table::missing(&name, elsewhere.as_deref());
            self.add(&name, [finding]);
            self.wanted.extend(of_routes(outbox));
            return Ok(());
        };
        let examined = format!("table {}", shape.quoted);
        self.report.looked_at.push(examined);
        self.add(
            &name,
            table::shape(
                &shape,
                &name,
                outbox.columns.created_at.as_deref().unwrap_or_default(),
            ),
        );
        let silent = server::replica_role(surroundings, &shape.quoted, shape.trigger_always);
        self.add(&name, silent);
        self.outbox(session, outbox, &shape, &surroundings.role, has_schema)
            .await
    }

    /// Examines what takes privileges on the table.
    async fn outbox(
        &mut self,
        session: &mut Session,
        outbox: &Outbox,
        shape: &TableShape,
        role: &str,
        has_schema: bool,
    ) -> Result<(), Error> {
        let name = outbox.table.to_string();
        let found = inspect::privileges(session, shape).await?;
        self.add(&name, privileges::privileges(&found, role));
        let us = (!found.all_powerful).then_some(Relaying {
            role: &found.login,
            quoted: &found.quoted_login,
            may_terminate: found.may_terminate,
        });
        let vital = found.missing.iter().any(|it| it.vital);
        if !has_schema || vital || shape.row_security {
            self.wanted.extend(of_routes(outbox));
            return Ok(());
        }
        if !inspect::is_registered(session, shape).await? {
            self.add(&name, [table::unregistered(&name)]);
            self.wanted.extend(of_routes(outbox));
            return Ok(());
        }
        match Table::find(session, outbox).await {
            Ok(found) => self.traffic(session, outbox, &found, us.as_ref()).await,
            Err(Error::Refused { problem, remedy }) => {
                self.add(&name, [table::unfit(&problem, &remedy)]);
                self.wanted.extend(of_routes(outbox));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn traffic(
        &mut self,
        session: &mut Session,
        outbox: &Outbox,
        table: &Table,
        us: Option<&Relaying<'_>>,
    ) -> Result<(), Error> {
        let name = outbox.table.to_string();
        if !table.id_is_unique {
            self.add(&name, [table::not_unique(&name, &outbox.columns.id)]);
        }
        if let Some(column) = &outbox.columns.event_id
            && !table.event_id_is_unique
        {
            self.add(&name, [table::event_id_not_unique(&name, column)]);
        }
        if let Some(columns) = DueColumns::of(outbox, table)
            && !columns.missing(session).await?.is_empty()
        {
            self.add(&name, [table::no_due_index(&name, columns.not_before)]);
        }
        if let Delivery::ExactlyOnce(transactions) = &outbox.delivery {
            let mut transacting = self.transacting.iter_mut();
            if let Some(it) = transacting.find(|it| it.outbox == name) {
                it.id = Some(transactions.id_of(table.id.0));
            }
        }
        self.add(
            &name,
            ids::fetch_plan(&inspect::detours(session, table).await?),
        );
        let status = postgres::status(session, table, self.old.as_secs_f64()).await?;
        if status.leader.is_none() {
            self.sessions += server::SESSIONS;
        }
        let dead = inspect::dead_reasons(session, table).await?;
        self.add(&name, traffic::traffic(&name, &status, &dead, self.old, us));
        let sample = inspect::sample(session, table).await?;
        let sequence = session
            .reading(async |session| {
                inspect::sequence(session, table.oid, &outbox.columns.id).await
            })
            .await?;
        self.add(&name, ids::behind(sequence.as_ref(), sample.highest_id));
        if sample.from_the_future > 0 && outbox.columns.created_at.is_some() {
            self.add(&name, [table::future(sample.from_the_future)]);
        }
        let depends = |it: &&Route| it.fixed(&table.name).is_none();
        if let Some(template) = outbox.templates().find(depends) {
            let found = topics::by_type(&name, &template.to_string());
            self.report.findings.push(found);
        }
        let letter = inspect::oldest_letter(session, table).await?;
        self.wanted.extend(wanted(outbox, table, &sample, letter));
        Ok(())
    }

    fn add(&mut self, outbox: &str, found: impl IntoIterator<Item = Finding>) {
        let found = found.into_iter().map(|finding| finding.of(outbox));
        self.report.findings.extend(found);
    }
}

/// Returns the topics that do not depend on the row.
fn of_routes(outbox: &Outbox) -> impl Iterator<Item = Wanted> {
    let (names, _) = outbox.fixed_topics();
    names.into_iter().map(|name| bare(outbox, name))
}

/// Returns what is wanted of a topic for which no row waits.
fn bare(outbox: &Outbox, name: String) -> Wanted {
    Wanted {
        name,
        outbox: outbox.table.to_string(),
        keyless: Some(0),
        largest: 0,
        oldest: None,
        oldest_letter: None,
    }
}

/// Returns what the mode exactly-once needs, if the outbox uses it.
fn transacts(outbox: &Outbox) -> Option<Transacting> {
    let Delivery::ExactlyOnce(transactions) = &outbox.delivery else {
        return None;
    };
    Some(Transacting {
        outbox: outbox.table.to_string(),
        receipts: transactions.receipts.fixed(&outbox.table.name)?,
        id: transactions.id.clone(),
    })
}

/// Returns the topics of an outbox: those of the routes, and those of waiting rows.
fn wanted(outbox: &Outbox, table: &Table, sample: &Sample, letter: Option<f64>) -> Vec<Wanted> {
    let routes = Routes::new(outbox);
    let mut all: Vec<Wanted> = of_routes(outbox).collect();
    let counts = outbox.timestamp == RecordTime::CreatedAt;
    let age = |seconds: Option<f64>| {
        let seconds = seconds.filter(|_| counts)?;
        Duration::try_from_secs_f64(seconds.trunc()).ok()
    };
    let oldest = age(sample.oldest_seconds);
    for it in &mut all {
        it.oldest_letter = age(letter);
    }
    for kind in &sample.kinds {
        let found = routes.of(kind.topic.as_deref(), kind.event_type.as_bytes());
        let Ok(Destination::Topic(name)) = found else {
            continue;
        };
        let index = all.iter().position(|it| it.name == name);
        let index = index.unwrap_or_else(|| {
            all.push(bare(outbox, name.into_owned()));
            all.len() - 1
        });
        let it = &mut all[index];
        it.keyless = it.keyless.map(|rows| rows + kind.keyless);
        it.largest = it.largest.max(kind.largest);
        it.oldest = oldest;
    }
    if !table.columns.has_key() {
        for it in &mut all {
            it.keyless = None;
        }
    }
    all
}

async fn brokers(
    settings: &Settings,
    wanted: &[Wanted],
    transacting: &[Transacting],
    report: &mut Report,
) -> Result<(), Failure> {
    let mut legal = Vec::new();
    for it in wanted {
        match check_topic(&it.name) {
            Ok(()) => legal.push(it),
            Err(fault) => report
                .findings
                .push(topics::illegal(it, &fault.to_string())),
        }
    }
    let mut names: Vec<String> = legal.iter().map(|it| it.name.clone()).collect();
    names.sort();
    names.dedup();
    if names.len() > MAX_TOPICS {
        report.looked_at.push(format!(
            "the first {MAX_TOPICS} of {} only",
            counted(names.len(), "topic")
        ));
        names.truncate(MAX_TOPICS);
    }
    names.extend(transacting.iter().map(|it| it.receipts.clone()));
    names.sort();
    names.dedup();
    let open = kafka::in_plain(&settings.kafka);
    report
        .findings
        .extend(open.as_deref().map(topics::plaintext));
    let cluster = match kafka::inspect(&settings.kafka, &names).await {
        Ok(cluster) => cluster,
        Err(InspectError::Config(error)) => return Err(Failure::Usage(error.to_string())),
        Err(error) => {
            report.findings.push(topics::unreachable(&error));
            return Ok(());
        }
    };
    report.looked_at.push(format!(
        "Kafka at {} ({})",
        settings.kafka.brokers,
        counted(cluster.brokers, "broker")
    ));
    report.findings.extend(topics::listeners(&cluster));
    report.findings.extend(topics::identity(&cluster));
    for topic in &cluster.topics {
        report.looked_at.push(format!(
            "topic {} ({}, {})",
            topic.name,
            counted(topic.partitions, "partition"),
            counted(topic.replicas.0, "replica")
        ));
        for it in legal.iter().filter(|it| it.name == topic.name) {
            report.findings.extend(topics::topic(&cluster, topic, it));
        }
    }
    for it in transacting {
        let found = transactions(settings, &cluster, it).await;
        report
            .findings
            .extend(found.map_err(|error| Failure::Usage(error.to_string()))?);
    }
    Ok(())
}

/// Examines what the mode exactly-once needs of the brokers.
async fn transactions(
    settings: &Settings,
    cluster: &Cluster,
    it: &Transacting,
) -> Result<Vec<Finding>, ClientConfigError> {
    let kafka = &settings.kafka;
    let mut found: Vec<_> = once::length(it, cluster).into_iter().collect();
    if let Some(topic) = cluster
        .topics
        .iter()
        .find(|topic| topic.name == it.receipts)
    {
        let untried = || AclAnswer::Untold("not tested".into());
        let create = match topic.state {
            TopicState::Missing => kafka::may_create(kafka, &it.receipts).await?,
            _ => untried(),
        };
        let read = match topic.state {
            TopicState::There => kafka::may_read(kafka, &it.receipts)?,
            _ => untried(),
        };
        found.extend(once::receipts(it, cluster, topic, &create, &read));
    }
    if let Some(id) = &it.id {
        found.extend(once::transactions(it, &kafka::may_transact(kafka, id)?));
    }
    Ok(found)
}
