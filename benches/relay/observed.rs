//! What it costs to be looked at: a backlog is drained by a relay that nobody looks at, by one whose metrics, health and page are asked for all the while,
//! by one that sends spans, and by one that does both; and what each costs while nothing happens.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use doorbell::app::bench::figures::{Mean, Spread, thousands};
use doorbell::app::bench::process::Relay;
use serde::Serialize;
use sqlx::Executor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

use crate::drain::until_empty;
use crate::process;
use crate::side::in_turn;
use crate::stage::{PARTITIONS, Stage};
use crate::topic;

/// How often each of these is asked for. Prometheus asks every 15 s or so.
const LOOK: Duration = Duration::from_secs(1);
const ASKED: [&str; 4] = ["/metrics", "/healthz", "/readyz", "/status.json"];
/// A page that is open.
const PAGE: &str = "/page/events";
/// After the last row, before idleness begins.
const REST: Duration = Duration::from_secs(2);

/// The rows of the other drains, of which each tenth carries a trace of its own that is sampled.
const INSERT: &str = "INSERT INTO outbox (type, key, payload, headers) \
    SELECT 'OrderCreated', 'key-' || n % 1000, rpad('{\"n\": ' || n || ', \"note\": \"', 198, 'x') || '\"}', \
    CASE WHEN n % 10 = 0 THEN jsonb_build_object('traceparent', format('00-%s-%s-01', lpad(to_hex(n), 32, '0'), lpad(to_hex(n), 16, '0'))) END \
    FROM generate_series(1, $1) n";

/// Who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Watch {
    /// What the others are held against.
    #[value(skip)]
    Nobody,
    /// Metrics, health and status every second, and one open page.
    Http,
    /// A collector takes a span for each fetch, sending and delete: every batch is sampled.
    Traces,
    Both,
}

#[derive(Debug, Serialize)]
struct Run {
    watch: Watch,
    seconds: f64,
    rows_per_second: f64,
    cpu_seconds_per_million_rows: f64,
    /// Answers that were read, those of the open page by events.
    answers: u64,
    /// Bytes of spans that the collector took.
    span_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Idle {
    watch: Watch,
    seconds: f64,
    cpu_percent_of_a_core: f64,
}

#[derive(Debug, Serialize)]
struct Summary {
    watch: Watch,
    rows_per_second: Spread,
    /// The rate over that of the one nobody looks at, round by round.
    over_nobody: Spread,
    mean_over_nobody: Mean,
    cpu_seconds_per_million_rows: Spread,
    cpu_mean_over_nobody: Mean,
    idle_cpu_percent_of_a_core: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Results {
    rows: i64,
    summaries: Vec<Summary>,
    /// In the order in which they ran.
    rounds: Vec<Vec<Run>>,
    idle: Vec<Idle>,
}

/// All in turn, so that whatever changes on the machine meets all of them.
pub(crate) async fn measure(
    stage: &mut Stage,
    watches: &[Watch],
    rows: i64,
    rounds: u32,
    idle: u32,
) -> anyhow::Result<Results> {
    let all = [&[Watch::Nobody], watches].concat();
    let collector = Collector::start().await?;
    let mut measured = Vec::new();
    for round in 0..rounds {
        let mut runs = Vec::new();
        for watch in in_turn(&all, round) {
            eprintln!("observed {}/{rounds}: {watch}", round + 1);
            runs.push(drain(stage, &collector, watch, rows).await?);
        }
        measured.push(runs);
    }
    let mut idles = Vec::new();
    for watch in &all {
        eprintln!("observed, idle: {watch}");
        idles.push(rest(stage, &collector, *watch, idle).await?);
    }
    let summaries = all
        .iter()
        .map(|watch| Summary::of(*watch, &measured, &idles));
    Ok(Results {
        rows,
        summaries: summaries
            .collect::<Option<_>>()
            .context("nothing was measured")?,
        rounds: measured,
        idle: idles,
    })
}

async fn drain(
    stage: &mut Stage,
    collector: &Collector,
    watch: Watch,
    rows: i64,
) -> anyhow::Result<Run> {
    let topic = stage.new_topic().await?;
    stage.truncate().await?;
    stage
        .session
        .execute(sqlx::query(INSERT).bind(rows))
        .await?;
    // It writes what the first reader would: all find the same pages.
    stage.session.execute("VACUUM outbox").await?;
    // Else one of several has the server's next checkpoint beside it.
    stage.session.execute("CHECKPOINT").await?;
    let spans = collector.bytes();
    let watched = Watched::start(stage, collector, watch, &topic).await?;
    let empty = until_empty(stage, rows).await?;
    let took = empty - watched.led;
    let cpu = watched.relay.cpu()?;
    let answers = watched.stop().await?;
    topic::check(stage, &topic, rows, &[0; PARTITIONS as usize])?;
    let (count, seconds) = (rows as f64, took.as_secs_f64());
    let run = Run {
        watch,
        seconds,
        rows_per_second: count / seconds,
        cpu_seconds_per_million_rows: cpu * 1e6 / count,
        answers,
        span_bytes: collector.bytes() - spans,
    };
    ensure!(
        (run.answers > 0) == watch.asks(),
        "{watch}: {} answers",
        run.answers
    );
    ensure!(
        (run.span_bytes > 0) == watch.traces(),
        "{watch}: {} bytes of spans",
        run.span_bytes
    );
    Ok(run)
}

async fn rest(
    stage: &mut Stage,
    collector: &Collector,
    watch: Watch,
    seconds: u32,
) -> anyhow::Result<Idle> {
    stage.truncate().await?;
    let topic = stage.new_topic().await?;
    let watched = Watched::start(stage, collector, watch, &topic).await?;
    sleep(REST).await;
    let (begun, cpu) = (Instant::now(), watched.relay.cpu()?);
    // Idleness is what is measured.
    sleep(Duration::from_secs(seconds.into())).await;
    let took = begun.elapsed().as_secs_f64();
    let cpu = watched.relay.cpu()? - cpu;
    watched.stop().await?;
    Ok(Idle {
        watch,
        seconds: took,
        cpu_percent_of_a_core: cpu / took * 100.0,
    })
}

impl Watch {
    fn asks(self) -> bool {
        matches!(self, Self::Http | Self::Both)
    }

    fn traces(self) -> bool {
        matches!(self, Self::Traces | Self::Both)
    }
}

/// A relay, and whoever looks at it.
struct Watched {
    relay: Relay,
    /// When it began to lead.
    led: Instant,
    askers: JoinSet<anyhow::Result<()>>,
    answers: Arc<AtomicU64>,
}

impl Watched {
    async fn start(
        stage: &Stage,
        collector: &Collector,
        watch: Watch,
        topic: &str,
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        let listen = if watch.asks() { &address } else { "off" };
        let mut command = process::run(stage, topic, listen);
        if watch.traces() {
            command
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)
                // Within the drain, not after it.
                .env("OTEL_BSP_SCHEDULE_DELAY", "1000");
        }
        let mut relay = Relay::start(command, "")?;
        let led = relay.led().await?;
        let mut askers = JoinSet::new();
        let answers = Arc::new(AtomicU64::new(0));
        if watch.asks() {
            askers.spawn(ask(address.clone(), Arc::clone(&answers)));
            askers.spawn(look(address, Arc::clone(&answers)));
        }
        Ok(Self {
            relay,
            led,
            askers,
            answers,
        })
    }

    /// How many answers were read.
    async fn stop(mut self) -> anyhow::Result<u64> {
        // None of them ends by itself: one that has ended has failed.
        while let Some(ended) = self.askers.try_join_next() {
            ended??;
        }
        self.askers.shutdown().await;
        self.relay.stop().await?;
        Ok(self.answers.load(Ordering::Relaxed))
    }
}

/// A port that nobody has at the moment.
fn free_address() -> anyhow::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.to_string())
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

/// Takes spans and throws them away.
struct Collector {
    url: String,
    bytes: Arc<AtomicU64>,
    _server: JoinSet<std::io::Result<()>>,
}

impl Collector {
    async fn start() -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
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

impl Summary {
    fn of(watch: Watch, rounds: &[Vec<Run>], idles: &[Idle]) -> Option<Self> {
        let of = |round: &[Run], watch: Watch, figure: fn(&Run) -> f64| {
            round.iter().find(|run| run.watch == watch).map(figure)
        };
        let rate = |run: &Run| run.rows_per_second;
        let cpu = |run: &Run| run.cpu_seconds_per_million_rows;
        let all = |figure| Spread::of(rounds.iter().filter_map(|it| of(it, watch, figure)));
        let ratios = |figure| {
            let ratio =
                move |it: &Vec<Run>| Some(of(it, watch, figure)? / of(it, Watch::Nobody, figure)?);
            rounds.iter().filter_map(ratio)
        };
        let idle = idles.iter().find(|idle| idle.watch == watch)?;
        Some(Self {
            watch,
            rows_per_second: all(rate)?,
            over_nobody: Spread::of(ratios(rate))?,
            mean_over_nobody: Mean::of(ratios(rate))?,
            cpu_seconds_per_million_rows: all(cpu)?,
            cpu_mean_over_nobody: Mean::of(ratios(cpu))?,
            idle_cpu_percent_of_a_core: idle.cpu_percent_of_a_core,
        })
    }
}

impl Results {
    /// The one line of it.
    pub(crate) fn conclusion(&self) -> String {
        let both = self.summaries.iter().find(|one| one.watch == Watch::Both);
        both.map_or(String::new(), |both| {
            let Mean { low, mean, high } = both.mean_over_nobody;
            format!("drain, observed / alone: {mean:.3} (95 %: {low:.3} to {high:.3})")
        })
    }
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "alone",
            Self::Http => "metrics, health and page",
            Self::Traces => "traces",
            Self::Both => "all of it",
        })
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} rows, {} rounds; `/metrics`, `/healthz`, `/readyz` and `/status.json` once a second and one open page; a span for each fetch, sending and delete, with each tenth row's trace linked\n",
            thousands(self.rows as f64),
            self.rounds.len()
        )?;
        writeln!(
            f,
            "| the relay | rows/s, median | lowest | highest | ÷ alone, mean (95 %) | lowest | highest | CPU s per million rows | ÷ alone, mean (95 %) | idle CPU, % of a core |"
        )?;
        writeln!(f, "|{}", "---|".repeat(10))?;
        let mean = |Mean { low, mean, high }| format!("{mean:.3} ({low:.3} to {high:.3})");
        for one in &self.summaries {
            let (rate, ratio) = (one.rows_per_second, one.over_nobody);
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {:.3} | {:.3} | {:.2} | {} | {:.2} |",
                one.watch,
                thousands(rate.median),
                thousands(rate.min),
                thousands(rate.max),
                mean(one.mean_over_nobody),
                ratio.min,
                ratio.max,
                one.cpu_seconds_per_million_rows.median,
                mean(one.cpu_mean_over_nobody),
                one.idle_cpu_percent_of_a_core,
            )?;
        }
        Ok(())
    }
}
