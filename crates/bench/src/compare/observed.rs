//! What it costs to be observed: a backlog is drained by a relay alone, by one whose metrics,
//! health and page are requested all the while, by one that sends spans, and by one that does both;
//! and what each costs while nothing happens.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use serde::Serialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use super::flags::{CompareFlags, Watcher};
use crate::fixture::{Fixture, Rows};
use crate::report::figures::{Mean, Spread, thousands};
use crate::report::rounds::Rounds;
use crate::report::{Measured, Table};
use crate::sides::audit::each_once;
use crate::sides::backlog::{Backlog, Drained};
use crate::sides::{Running, Side, Start};

/// How often each of these is asked for. Prometheus asks every 15 s or so.
const LOOK: Duration = Duration::from_secs(1);
const ASKED: [&str; 4] = ["/metrics", "/healthz", "/readyz", "/status.json"];
/// A page that is open.
const PAGE: &str = "/page/events";
/// After the last row, before idleness begins.
const REST: Duration = Duration::from_secs(2);

#[derive(Debug, Serialize)]
struct Run {
    watch: Watcher,
    #[serde(flatten)]
    drained: Drained,
    /// Answers that were read, those of the open page by events.
    answers: u64,
    /// Bytes of spans that the collector took.
    span_bytes: u64,
}

/// All in turn, so that whatever changes on the machine meets all of them.
pub(super) async fn measure(
    fixture: &mut Fixture,
    flags: &CompareFlags,
) -> anyhow::Result<Measured> {
    let all = [&[Watcher::Alone], &flags.watch[..]].concat();
    let (collector, rows) = (Collector::start().await?, flags.rows);
    let seconds = flags.idle_seconds.into();
    let name = |watch: Watcher| watch.to_string();
    let run = async |fixture: &mut Fixture, watch| drain(fixture, &collector, watch, rows).await;
    let runs = Rounds::measure(fixture, ("observed", flags.rounds), &all, name, run).await?;
    let idle = async |fixture: &mut Fixture, watch| {
        fixture.scratch.empty().await?;
        let topic = fixture.topics.make("observed").await?;
        let idle = async |_: &mut Fixture, relay: &Running| {
            sleep(REST).await;
            relay.idle(Duration::from_secs(seconds)).await
        };
        let (percent, _) = watched(fixture, &collector, watch, &topic, idle).await?;
        Ok(percent)
    };
    let idles = Rounds::measure(fixture, ("observed, idle", 1), &all, name, idle).await?;
    Ok(report(flags, &all, &runs, &idles))
}

async fn drain(
    fixture: &mut Fixture,
    collector: &Collector,
    watch: Watcher,
    rows: i64,
) -> anyhow::Result<Run> {
    let topic = fixture.topics.make("observed").await?;
    let backlog = Backlog::of(Side::Relay, rows);
    let last = backlog.fill(fixture, Rows::Traced).await?;
    // Else one of several has the server's next checkpoint beside it.
    fixture.scratch.session.batch("CHECKPOINT").await?;
    let spans = collector.bytes();
    let work = async |fixture: &mut Fixture, relay: &Running| {
        backlog.until_empty(fixture, relay, last).await
    };
    let (drained, answers) = watched(fixture, collector, watch, &topic, work).await?;
    each_once(fixture, &topic, rows, &[])?;
    let span_bytes = collector.bytes() - spans;
    ensure!((answers > 0) == watch.asks(), "{watch}: {answers} answers");
    ensure!(
        (span_bytes > 0) == watch.traces(),
        "{watch}: {span_bytes} bytes of spans"
    );
    Ok(Run {
        watch,
        drained,
        answers,
        span_bytes,
    })
}

/// A relay's work while it is observed, and how many answers were read meanwhile.
async fn watched<T>(
    fixture: &mut Fixture,
    collector: &Collector,
    watch: Watcher,
    topic: &str,
    work: impl AsyncFnOnce(&mut Fixture, &Running) -> anyhow::Result<T>,
) -> anyhow::Result<(T, u64)> {
    // One that is free at the moment.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let listen = if watch.asks() { &address } else { "off" };
    // Spans leave within the drain, not after it.
    let spans = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "1000"),
    ];
    let start = Start {
        flags: &["--listen", listen],
        environment: if watch.traces() { &spans } else { &[] },
        ..Start::default()
    };
    let relay = Running::start(Side::Relay, fixture, topic, start).await?;
    let mut askers = JoinSet::new();
    let answers = Arc::new(AtomicU64::new(0));
    if watch.asks() {
        askers.spawn(ask(address.clone(), Arc::clone(&answers)));
        askers.spawn(look(address, Arc::clone(&answers)));
    }
    let done = work(fixture, &relay).await?;
    // None of them ends by itself: one that has ended has failed.
    while let Some(ended) = askers.try_join_next() {
        ended??;
    }
    askers.shutdown().await;
    relay.stop(fixture).await?;
    Ok((done, answers.load(Ordering::Relaxed)))
}

/// Asks as a scraper and a probe do.
async fn ask(address: String, answers: Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut beat = interval(LOOK);
    loop {
        beat.tick().await;
        for path in ASKED {
            let mut stream = request(&address, path).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            ensure!(
                answer.starts_with(b"HTTP/1.1 200"),
                "{path} was not answered"
            );
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Follows the page as a browser does.
async fn look(address: String, answers: Arc<AtomicU64>) -> anyhow::Result<()> {
    let mut stream = request(&address, PAGE).await?;
    let mut events = [0; 64 << 10];
    while stream.read(&mut events).await? > 0 {
        answers.fetch_add(1, Ordering::Relaxed);
    }
    anyhow::bail!("the page ended")
}

async fn request(address: &str, path: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// A server that takes spans and discards them.
struct Collector {
    url: String,
    bytes: Arc<AtomicU64>,
    _server: JoinSet<std::io::Result<()>>,
}

impl Collector {
    async fn start() -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let bytes = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&bytes);
        let take = move |body: Bytes| async move {
            count.fetch_add(body.len() as u64, Ordering::Relaxed);
        };
        let router = Router::new()
            .route("/v1/traces", post(take))
            .layer(DefaultBodyLimit::disable());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await });
        Ok(Self {
            url,
            bytes,
            _server: server,
        })
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

fn report(
    flags: &CompareFlags,
    watches: &[Watcher],
    runs: &Rounds<Watcher, Run>,
    idles: &Rounds<Watcher, f64>,
) -> Measured {
    let mut table = Table::new(
        "the relay | rows/s, median | lowest | highest | ÷ alone, mean (95 %) | lowest | highest | CPU s per million rows | \
         ÷ alone, mean (95 %) | idle CPU, % of a core",
    );
    let rate = |run: &Run| run.drained.rows_per_second;
    let cpu = |run: &Run| run.drained.cpu_seconds_per_million_rows;
    let mean = |Mean { low, mean, high }| format!("{mean:.3} ({low:.3} to {high:.3})");
    let (mut summaries, mut conclusion) = (Vec::new(), None);
    for watch in watches {
        let idle = idles.figure(0, *watch, |percent| *percent);
        // Over that of the relay alone, round by round.
        let ratios = runs.ratios(*watch, Watcher::Alone, rate);
        let (rates, cpus) = (runs.spread(*watch, rate), runs.spread(*watch, cpu));
        let (ratio, of_rates) = (Spread::of(ratios.clone()), Mean::of(ratios));
        let of_cpus = Mean::of(runs.ratios(*watch, Watcher::Alone, cpu));
        let [min, max] = [ratio.min, ratio.max].map(|ratio| format!("{ratio:.3}"));
        let [cpu, idle_cpu] = [cpus.median, idle].map(|cpu| format!("{cpu:.2}"));
        let costs = [mean(of_rates), min, max, cpu, mean(of_cpus), idle_cpu];
        let cells = rates.cells(thousands).into_iter().chain(costs);
        table.row(watch.to_string(), cells);
        if *watch == Watcher::Both {
            let Mean { low, mean, high } = of_rates;
            let ratio = format!("{mean:.3} (95 %: {low:.3} to {high:.3})");
            conclusion = Some(format!("drain, observed / alone: {ratio}"));
        }
        summaries.push(json!({
            "watch": watch, "rows_per_second": rates, "over_nobody": ratio, "mean_over_nobody": of_rates,
            "cpu_seconds_per_million_rows": cpus, "cpu_mean_over_nobody": of_cpus, "idle_cpu_percent_of_a_core": idle,
        }));
    }
    let what = format!(
        "{} rows, {} rounds; `/metrics`, `/healthz`, `/readyz` and `/status.json` once a second and one open page; a span for each fetch, sending and delete, with each tenth row's trace linked",
        thousands(flags.rows as f64),
        runs.count()
    );
    let json = json!({
        "rows": flags.rows, "idle_seconds": flags.idle_seconds, "summaries": summaries, "rounds": runs.json(),
    });
    Measured::new("Drain and idleness, observed and not", what, json)
        .table(table)
        .concluding(conclusion)
}
