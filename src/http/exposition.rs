//! Text of `/metrics`.

use std::borrow::Cow;
use std::fmt::{Error, Write as _};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::health::OutboxHealth;
use super::metrics::{Metric, MetricValue, PROCESS, REGISTRY, process_figures, stages};
use crate::config::Settings;

pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub(super) const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels that every metric of the process has.
#[derive(Debug, Clone)]
pub(super) struct CommonLabels(Vec<(Cow<'static, str>, Cow<'static, str>)>);

impl CommonLabels {
    /// The database, and the name of the service if it has one: what tells the outboxes of one
    /// Prometheus apart.
    pub(super) fn of(settings: &Settings) -> Self {
        let database = settings.database.url.database();
        let name = settings.telemetry.name.clone();
        let given = [("database", Some(database)), ("name", name)];
        let labels = given.into_iter().filter_map(|(label, value)| {
            let value = value.filter(|it| !it.is_empty())?;
            Some((label.into(), value.into()))
        });
        Self(labels.collect())
    }
}

pub(super) fn open_metrics(
    outboxes: Vec<OutboxHealth>,
    labels: &CommonLabels,
) -> Result<String, Error> {
    let mut registry = Registry::with_labels(labels.0.iter().cloned());
    registry.register_collector(Box::new(Gathered { outboxes }));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// Converts OpenMetrics to the older text format, for clients that do not accept the newer one: a
/// counter is described by its full name, and nothing marks the end.
pub(super) fn classic(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut help: Option<(&str, &str)> = None;
    for line in open.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            let total = if kind == "counter" { "_total" } else { "" };
            if let Some((_, words)) = help.take() {
                writeln!(text, "# HELP {name}{total} {words}").expect("a String takes it");
            }
            writeln!(text, "# TYPE {name}{total} {kind}").expect("a String takes it");
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[derive(Debug)]
struct Gathered {
    outboxes: Vec<OutboxHealth>,
}

impl Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        encode_build_info(&mut encoder)?;
        encode_process(&mut encoder)?;
        for metric in REGISTRY {
            let kind = match metric.value {
                MetricValue::Count(_) => MetricType::Counter,
                MetricValue::Level(_) | MetricValue::States(..) => MetricType::Gauge,
                MetricValue::Stages => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for outbox in &self.outboxes {
                write(metric, &mut family, outbox)?;
            }
        }
        Ok(())
    }
}

const NO_EXEMPLAR: Option<&Exemplar<[(&str, &str); 0], f64>> = None;

fn write(metric: &Metric, family: &mut MetricEncoder<'_>, it: &OutboxHealth) -> Result<(), Error> {
    let outbox = ("outbox", it.relay.outbox.as_str());
    match metric.value {
        MetricValue::Count(of) => {
            if let Some(value) = of(&it.relay) {
                family
                    .encode_family(&[outbox])?
                    .encode_counter(&value, NO_EXEMPLAR)?;
            }
        }
        MetricValue::Level(of) => {
            if let Some(value) = of(it) {
                family.encode_family(&[outbox])?.encode_gauge(&value)?;
            }
        }
        MetricValue::States(label, of) => {
            for (word, holds) in of(&it.relay) {
                let labels = [outbox, (label, word)];
                family
                    .encode_family(&labels)?
                    .encode_gauge(&i64::from(holds))?;
            }
        }
        MetricValue::Stages => {
            for (stage, timing) in stages(&it.relay) {
                let labels = [outbox, ("stage", stage)];
                family
                    .encode_family(&labels)?
                    .encode_histogram::<[(&str, &str); 0]>(
                        timing.seconds,
                        timing.count,
                        &timing.buckets,
                        None,
                    )?;
            }
        }
    }
    Ok(())
}

fn encode_build_info(encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    encoder
        .encode_descriptor(
            "doorbell_build_info",
            "Version of the running program; always 1",
            None,
            MetricType::Gauge,
        )?
        .encode_family(&version)?
        .encode_gauge(&1_i64)
}

fn encode_process(encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    let Some(figures) = process_figures() else {
        return Ok(());
    };
    for ((name, help, is_counter), value) in PROCESS.iter().zip(figures) {
        let kind = match is_counter {
            true => MetricType::Counter,
            false => MetricType::Gauge,
        };
        let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
        match is_counter {
            true => metric.encode_counter(&value, NO_EXEMPLAR)?,
            false => metric.encode_gauge(&value)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DatabaseUrl, Outbox, TableName};
    use crate::relay::{Monitor, Readiness};

    #[test]
    fn a_name_with_quotes_is_escaped_and_each_family_is_described_once() {
        let table = TableName {
            schema: Some("app".into()),
            name: "a \"b\"\\".into(),
        };
        let other = Outbox {
            table,
            ..Outbox::default()
        };
        let health = |outbox: &Outbox| {
            let relay = Monitor::new(outbox).snapshot();
            let readiness = Readiness::of(&relay, std::time::Duration::from_secs(1));
            OutboxHealth { relay, readiness }
        };
        let url = DatabaseUrl::parse("postgres://me@h/a%20shop").expect("a URL");
        let mut settings = Settings::new(url, "");
        settings.telemetry.name = Some("orders".into());
        let labels = CommonLabels::of(&settings);
        let text = open_metrics(vec![health(&Outbox::default()), health(&other)], &labels);
        let text = text.expect("text");
        let common = "database=\"a shop\",name=\"orders\"";
        let ready = |name: &str| format!("doorbell_ready{{{common},outbox=\"{name}\"}} 0.0\n");
        let memory = format!("\nprocess_resident_memory_bytes{{{common}}} ");
        assert!(text.contains(&memory), "{text}");
        assert!(text.contains(&ready("outbox")), "{text}");
        assert!(text.contains(&ready(r#"app.\"a \"\"b\"\"\\\""#)), "{text}");
        assert_eq!(text.matches("# TYPE doorbell_ready gauge").count(), 1);
        // What is not known yet is absent.
        assert!(!text.contains("doorbell_backlog_rows{"));
    }
}
