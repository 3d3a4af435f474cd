//! The text of `/metrics`.

use std::fmt::{Error, Write as _};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::judged::Judged;
use super::metrics::{Metric, REGISTRY, Value, stages};

pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub(super) const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics in the form of OpenMetrics.
pub(super) fn open_metrics(outboxes: Vec<Judged>) -> Result<String, Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Gathered { outboxes }));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// The older form, for those who do not ask for the newer: a counter is described by its full name, and nothing marks the end.
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

/// Everything at one moment.
#[derive(Debug)]
struct Gathered {
    outboxes: Vec<Judged>,
}

impl Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        about(&mut encoder)?;
        for metric in REGISTRY {
            let kind = match metric.value {
                Value::Count(_) => MetricType::Counter,
                Value::Level(_) | Value::States(..) => MetricType::Gauge,
                Value::Stages => MetricType::Histogram,
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

fn write(metric: &Metric, family: &mut MetricEncoder<'_>, it: &Judged) -> Result<(), Error> {
    let outbox = ("outbox", it.relay.outbox.as_str());
    match metric.value {
        Value::Count(of) => {
            if let Some(value) = of(&it.relay) {
                family
                    .encode_family(&[outbox])?
                    .encode_counter(&value, NO_EXEMPLAR)?;
            }
        }
        Value::Level(of) => {
            if let Some(value) = of(it) {
                family.encode_family(&[outbox])?.encode_gauge(&value)?;
            }
        }
        Value::States(label, of) => {
            for (word, holds) in of(&it.relay) {
                let labels = [outbox, (label, word)];
                family
                    .encode_family(&labels)?
                    .encode_gauge(&i64::from(holds))?;
            }
        }
        Value::Stages => {
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

/// The process itself.
fn about(encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    encoder
        .encode_descriptor(
            "doorbell_build_info",
            "The version that runs: always 1",
            None,
            MetricType::Gauge,
        )?
        .encode_family(&version)?
        .encode_gauge(&1_i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Outbox, TableName};
    use crate::relay::{Readiness, Vitals};

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
        let judged = |outbox: &Outbox| {
            let relay = Vitals::new(outbox).snapshot();
            let readiness = Readiness::of(&relay, std::time::Duration::from_secs(1));
            Judged { relay, readiness }
        };
        let text = open_metrics(vec![judged(&Outbox::default()), judged(&other)]);
        let text = text.expect("text");
        let ready = |name: &str| format!("doorbell_ready{{outbox=\"{name}\"}} 0.0\n");
        assert!(text.contains(&ready("outbox")), "{text}");
        assert!(text.contains(&ready(r#"app.\"a \"\"b\"\"\\\""#)), "{text}");
        assert_eq!(text.matches("# TYPE doorbell_ready gauge").count(), 1);
        // What nobody can know yet is not there.
        assert!(!text.contains("doorbell_backlog_rows{"));
    }
}
