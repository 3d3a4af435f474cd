//! Asks the database and the brokers, and goes on as far as the answers allow: one fault does not hide the others.

use std::time::Duration;

use serde::Serialize;

use super::finding::Finding;
use super::once::{self, Transacting};
use super::topics::{self, Wanted};
use super::traffic::Relaying;
use super::{ids, rights, server, table, traffic};
use crate::app::failure::Failure;
use crate::config::{Delivery, Outbox, Settings, check_topic};
use crate::kafka::{self, Cluster, ConfigError, Grant, SurveyError, TopicState};
use crate::postgres::survey::{self, Sample, Shape};
use crate::postgres::{self, Error, Server, Session, Table, hears_itself};

/// Topics that are asked for: each costs the brokers some answers.
const MOST_TOPICS: usize = 50;

/// What was looked at, and what was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) looked_at: Vec<String>,
    pub(super) findings: Vec<Finding>,
}

/// Looks at everything that is configured.
pub(super) async fn examine(settings: &Settings, old: Duration) -> Result<Report, Failure> {
    let mut report = Report::default();
    let mut wanted = Vec::new();
    let mut transacting: Vec<_> = settings.outboxes.iter().filter_map(transacts).collect();
    let (findings, reached) = server::hosts(Server::each(&settings.database.url).await);
    report.findings.extend(findings);
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
        None => wanted.extend(settings.outboxes.iter().filter_map(of_route)),
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
        let mut other = Session::open(server, "check bell").await?;
        // A channel that nobody else listens to.
        let channel = format!("doorbell:check:{}", std::process::id());
        if !hears_itself(&mut other, &mut session, &channel).await? {
            self.report.findings.push(server::pooler());
        }
        drop(other);
        let schema = postgres::schema_differences(&mut session).await?;
        let first = self.settings.outboxes.first();
        if let (Some(finding), Some(outbox)) = (table::schema(schema.as_deref()), first) {
            let finding = finding.of(&outbox.table.to_string());
            self.report.findings.push(finding);
        }
        let surroundings = survey::surroundings(&mut session).await?;
        self.report.looked_at.push(format!(
            "PostgreSQL {} at {}, database {}, as role {}",
            surroundings.version,
            server.shown(),
            surroundings.database,
            surroundings.role
        ));
        for outbox in &self.settings.outboxes {
            let name = outbox.table.to_string();
            let Some(shape) = survey::shape(&mut session, &outbox.table, &outbox.columns).await?
            else {
                self.report.findings.push(table::missing(&name).of(&name));
                self.wanted.extend(of_route(outbox));
                continue;
            };
            self.report
                .looked_at
                .push(format!("table {}", shape.quoted));
            self.add(&name, table::shape(&shape, &name));
            let silent = server::replica_role(&surroundings, &name, shape.trigger_always);
            self.add(&name, silent);
            let has_schema = schema.is_some();
            self.outbox(&mut session, outbox, &shape, &surroundings.role, has_schema)
                .await?;
        }
        let pins = survey::pins(&mut session, self.old).await?;
        self.report.findings.extend(server::pins(&pins));
        let found = server::surroundings(&surroundings, self.sessions);
        self.report.findings.extend(found);
        Ok(())
    }

    /// What only somebody with rights on the table can tell.
    async fn outbox(
        &mut self,
        session: &mut Session,
        outbox: &Outbox,
        shape: &Shape,
        role: &str,
        has_schema: bool,
    ) -> Result<(), Error> {
        let name = outbox.table.to_string();
        let found = survey::rights(session, shape).await?;
        self.add(&name, rights::rights(&found, role));
        let us = (!found.all_powerful).then_some(Relaying {
            role,
            may_terminate: found.may_terminate,
        });
        let vital = found.missing.iter().any(|it| it.vital);
        if !has_schema || vital || shape.row_security {
            self.wanted.extend(of_route(outbox));
            return Ok(());
        }
        if !survey::is_registered(session, shape).await? {
            self.add(&name, [table::unregistered(&name)]);
            self.wanted.extend(of_route(outbox));
            return Ok(());
        }
        match Table::find(session, &outbox.table, &outbox.columns).await {
            Ok(found) => self.traffic(session, outbox, &found, us.as_ref()).await,
            Err(Error::Refused { problem, remedy }) => {
                self.add(&name, [table::unfit(&problem, &remedy)]);
                self.wanted.extend(of_route(outbox));
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
        if let Delivery::ExactlyOnce(transactions) = &outbox.delivery {
            let mut transacting = self.transacting.iter_mut();
            if let Some(it) = transacting.find(|it| it.outbox == name) {
                it.id = Some(transactions.id_of(table.id.0));
            }
        }
        self.add(
            &name,
            ids::fetch_plan(&survey::detours(session, table).await?),
        );
        let status = postgres::status(session, table).await?;
        if status.leader.is_none() {
            self.sessions += server::SESSIONS;
        }
        let dead = survey::dead_reasons(session, table).await?;
        self.add(&name, traffic::traffic(&status, &dead, self.old, us));
        let sample = survey::sample(session, table).await?;
        if sample.from_the_future > 0 {
            self.add(&name, [table::future(sample.from_the_future)]);
        }
        if outbox.topic.fixed(&table.name).is_none() {
            self.report
                .findings
                .push(topics::by_type(&name, &outbox.topic.to_string()));
        }
        self.wanted.extend(wanted(outbox, table, &sample));
        Ok(())
    }

    fn add(&mut self, outbox: &str, found: impl IntoIterator<Item = Finding>) {
        let found = found.into_iter().map(|finding| finding.of(outbox));
        self.report.findings.extend(found);
    }
}

/// The topic of rows that name none, where it is the same for all.
fn of_route(outbox: &Outbox) -> Option<Wanted> {
    Some(Wanted {
        name: outbox.topic.fixed(&outbox.table.name)?,
        outbox: outbox.table.to_string(),
        keyless: Some(0),
        largest: 0,
        oldest: None,
    })
}

/// What it needs where each event is sent once.
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

/// The topics of an outbox: that of the route, and those of the rows that wait.
fn wanted(outbox: &Outbox, table: &Table, sample: &Sample) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = of_route(outbox).into_iter().collect();
    let oldest = sample.oldest_seconds;
    let oldest = oldest.and_then(|seconds| Duration::try_from_secs_f64(seconds.trunc()).ok());
    for kind in &sample.kinds {
        let route = || {
            outbox
                .topic
                .topic(&table.name, &kind.event_type)
                .into_owned()
        };
        let name = kind.topic.clone().unwrap_or_else(route);
        let index = all
            .iter()
            .position(|it| it.name == name)
            .unwrap_or_else(|| {
                all.push(Wanted {
                    name,
                    outbox: outbox.table.to_string(),
                    keyless: Some(0),
                    largest: 0,
                    oldest: None,
                });
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
    if names.len() > MOST_TOPICS {
        report.looked_at.push(format!(
            "the first {MOST_TOPICS} of {} topics only",
            names.len()
        ));
        names.truncate(MOST_TOPICS);
    }
    names.extend(transacting.iter().map(|it| it.receipts.clone()));
    names.sort();
    names.dedup();
    let cluster = match kafka::survey(&settings.kafka, &names).await {
        Ok(cluster) => cluster,
        Err(SurveyError::Config(error)) => return Err(Failure::Usage(error.to_string())),
        Err(error) => {
            report.findings.push(topics::unreachable(&error));
            return Ok(());
        }
    };
    report.looked_at.push(format!(
        "Kafka at {} ({} brokers)",
        settings.kafka.brokers, cluster.brokers
    ));
    report.findings.extend(topics::identity(&cluster));
    for topic in &cluster.topics {
        report.looked_at.push(format!(
            "topic {} ({} partitions, {} copies)",
            topic.name, topic.partitions, topic.replicas.0
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

/// What the brokers allow an outbox whose events are sent once.
async fn transactions(
    settings: &Settings,
    cluster: &Cluster,
    it: &Transacting,
) -> Result<Vec<Finding>, ConfigError> {
    let kafka = &settings.kafka;
    let mut found = Vec::new();
    if let Some(topic) = cluster
        .topics
        .iter()
        .find(|topic| topic.name == it.receipts)
    {
        let untried = || Grant::Untold("not tried".into());
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
