//! Servers, relays and the network between them, and how each fault is caused.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::database::{AFTER_MIGRATION, BEFORE_MIGRATION, Database, OUTBOXES, ROWS};
use super::disk::Disk;
use super::plan::{Nodes, Plan, word};
use super::schedule::{Fault, Kind};
use super::writers;
use crate::support::{Instance, Proxy, Relay, World, create_topic, eventually, within};

pub(crate) const PARTITIONS: i32 = 3;
/// How long a frozen leader may continue after its sessions were terminated.
const DEPOSED: Duration = Duration::from_secs(5);
const PAIR: [&str; 2] = ["postgres", "standby"];
/// How long a broker may survive on a full disk.
const FULL: Duration = Duration::from_secs(10);

pub(crate) struct Stage {
    pub(crate) plan: Plan,
    pub(crate) world: World,
    pub(crate) database: Database,
    relays: Vec<Option<Relay>>,
    flags: Vec<String>,
    /// Of the relays; removed on drop.
    _config: tempfile::NamedTempFile,
    to_postgres: Vec<Proxy>,
    to_kafka: Vec<Proxy>,
    disk: Option<Disk>,
    /// The server that takes writes, and its standby.
    servers: [&'static str; 2],
    instance: Instance,
}

/// What has to be done at the end of a fault.
pub(crate) enum Open {
    Nothing,
    /// These relays have ended.
    Killed(Vec<usize>),
    Stopping(usize),
    Frozen(usize),
    Gone(String),
    /// A former primary.
    Deposed(&'static str),
    FrozenBroker(Pid),
    FullDisk(String),
    StalledPostgres,
    StalledKafka,
}

impl Stage {
    pub(crate) fn set(plan: Plan) -> Self {
        let kafka = match plan.nodes {
            Nodes::One => "kafka",
            Nodes::Three => "kafka3",
        };
        let mut instance = Instance::start("chaos", &["postgres", kafka]);
        start_standby(&mut instance);
        let disk = match plan.nodes {
            Nodes::One => Disk::under(&mut instance, "kafka", "KAFKA_DATA"),
            Nodes::Three => Disk::under(&mut instance, "kafka3-3", "KAFKA_DATA_3_3"),
        };
        let mut world = World::empty("chaos", instance.services());
        world.sql(BEFORE_MIGRATION);
        for table in OUTBOXES {
            world.migrate(&["--table", table]);
            create_topic(&world, &topic(&world, table), PARTITIONS, &[]);
        }
        world.sql(AFTER_MIGRATION);
        let standby = world.database_at(instance.variable("DATABASE_URL_STANDBY"));
        let database = Database {
            urls: vec![world.database_url.clone(), standby],
        };
        let proxies = |url: &String| Proxy::start("127.0.0.1:0", server(url));
        let to_postgres: Vec<Proxy> = database.urls.iter().map(proxies).collect();
        let hosts = to_postgres.iter().map(|proxy| proxy.address().to_string());
        let url = world.database_at(&url_of(hosts));
        // For commands of the run itself, without a proxy.
        let hosts = database.urls.iter().map(|url| server(url).to_owned());
        world.database_url = world.database_at(&url_of(hosts));
        let (to_kafka, brokers) = before_kafka(&instance, plan.nodes);
        let config = tempfile::NamedTempFile::new().expect("a file");
        let text: Vec<String> = OUTBOXES
            .iter()
            .map(|table| {
                format!(
                    "[[outbox]]\ntable = '{table}'\ntopic = '{}'\nsweep = '1h'\ndelivery = '{}'\n",
                    topic(&world, table),
                    word(&plan.delivery)
                )
            })
            .collect();
        std::fs::write(config.path(), text.concat()).expect("room");
        let config_path = config.path().to_str().expect("a path").to_owned();
        let flags = [
            ("--config", config_path),
            ("--database-url", url),
            ("--kafka-brokers", brokers),
        ];
        let flags = flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value]);
        let mut stage = Self {
            relays: (0..plan.relays).map(|_| None).collect(),
            plan,
            world,
            database,
            flags: flags.collect(),
            _config: config,
            to_postgres,
            to_kafka,
            disk,
            servers: PAIR,
            instance,
        };
        for slot in 0..stage.relays.len() {
            stage.launch(slot);
        }
        stage
    }

    pub(crate) fn has_disk(&self) -> bool {
        self.disk.is_some()
    }

    fn launch(&mut self, slot: usize) {
        let flags: Vec<&str> = self.flags.iter().map(String::as_str).collect();
        self.relays[slot] = Some(Relay::spawn(&self.world, &flags));
    }

    /// Keeps the log of a relay before the relay is dropped.
    fn note(&self, relay: &Relay) {
        assert_eq!(relay.count_log("Kafka cannot take this row"), 0);
        if let Some(folder) = &self.plan.keep {
            write_log(folder, relay);
        }
    }

    fn kill(&mut self, slot: usize) {
        if let Some(relay) = self.relays[slot].take() {
            self.note(&relay);
            relay.kill();
        }
    }

    pub(crate) fn topic(&self, table: &str) -> String {
        topic(&self.world, table)
    }

    /// Returns a relay that leads an outbox, or any relay where the database is unreachable.
    fn leader(&self, pick: u32) -> usize {
        let (pick, leaders) = (pick as usize, self.leaders().unwrap_or_default());
        match leaders.len() {
            0 => pick % self.relays.len(),
            many => leaders[pick % many],
        }
    }

    /// Returns the relays that lead, one for each outbox.
    fn leaders(&self) -> Option<Vec<usize>> {
        let rows = self.database.ask(
            "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) \
             WHERE locktype = 'advisory' AND classid = 1685024626 AND granted AND datname = current_database()",
        )?;
        let leader = |row: &PgRow| {
            let application: String = row.try_get(0).ok()?;
            let pid: u32 = application.rsplit(' ').next()?.parse().ok()?;
            let is_it =
                |relay: &Option<Relay>| relay.as_ref().is_some_and(|relay| relay.pid() == pid);
            self.relays.iter().position(is_it)
        };
        Some(rows.iter().filter_map(leader).collect())
    }

    fn signal(&self, slot: usize, signal: Signal) {
        if let Some(relay) = &self.relays[slot] {
            relay.signal(signal);
        }
    }

    /// Terminates sessions; the server may not answer.
    fn end_sessions(&self, whose: &str) {
        self.database.ask(&format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND application_name {whose}"
        ));
    }

    /// Returns the service of one broker, and the variable that holds its process id.
    fn broker(&self, pick: u32) -> (String, String) {
        match self.plan.nodes {
            Nodes::One => ("kafka".into(), "KAFKA_PID".into()),
            Nodes::Three => {
                let node = pick % 3 + 1;
                (format!("kafka3-{node}"), format!("KAFKA_PID_3_{node}"))
            }
        }
    }

    fn pid(&self, variable: &str) -> Pid {
        let pid = self.instance.variable(variable).parse().ok();
        pid.and_then(Pid::from_raw).expect("a process")
    }

    pub(crate) fn begin(&mut self, fault: Fault) -> Open {
        let pick = fault.pick;
        match fault.kind {
            Kind::KillLeader => self.begin_kill(vec![self.leader(pick)]),
            Kind::KillRelay => self.begin_kill(vec![pick as usize % self.relays.len()]),
            Kind::KillAllRelays => self.begin_kill((0..self.relays.len()).collect()),
            Kind::StopLeader => {
                let slot = self.leader(pick);
                self.signal(slot, Signal::TERM);
                Open::Stopping(slot)
            }
            Kind::FreezeLeader => {
                let slot = self.leader(pick);
                self.signal(slot, Signal::STOP);
                Open::Frozen(slot)
            }
            Kind::DeposeFrozenLeader => self.depose(pick),
            Kind::EndRelaySessions => {
                let purpose = ["bell %", "key %", "reader %", "leader %"].get(pick as usize % 6);
                self.end_sessions(&format!("LIKE 'doorbell % {}'", purpose.unwrap_or(&"%")));
                Open::Nothing
            }
            Kind::EndWriterSessions => {
                self.end_sessions(&format!("= '{}'", writers::APPLICATION));
                Open::Nothing
            }
            Kind::CutPostgres => {
                self.to_postgres.iter().for_each(Proxy::cut);
                Open::Nothing
            }
            Kind::StallPostgres => {
                self.to_postgres.iter().for_each(Proxy::stall);
                Open::StalledPostgres
            }
            Kind::RestartPostgresFast => self.take_down(self.servers[0], Instance::stop),
            Kind::RestartPostgresImmediate => {
                self.quit_postgres();
                Open::Gone(self.servers[0].into())
            }
            Kind::KillPostgres => self.take_down(self.servers[0], Instance::kill),
            Kind::FailOver => self.fail_over(),
            Kind::CutKafka => {
                self.to_kafka.iter().for_each(Proxy::cut);
                Open::Nothing
            }
            Kind::StallKafka => {
                self.to_kafka.iter().for_each(Proxy::stall);
                Open::StalledKafka
            }
            Kind::KillBroker => self.take_down(&self.broker(pick).0, Instance::kill),
            Kind::RestartBroker => self.take_down(&self.broker(pick).0, Instance::stop),
            Kind::FreezeBroker => {
                let pid = self.pid(&self.broker(pick).1);
                kill_process(pid, Signal::STOP).expect("the broker runs");
                Open::FrozenBroker(pid)
            }
            Kind::FillBrokerDisk => self.fill_disk(),
        }
    }

    pub(crate) fn end(&mut self, open: Open, is_alone: bool) {
        match open {
            Open::Nothing => {}
            Open::Killed(slots) => slots.into_iter().for_each(|slot| self.launch(slot)),
            Open::Stopping(slot) => {
                self.stopped(slot, is_alone);
                self.launch(slot);
            }
            Open::Frozen(slot) => self.signal(slot, Signal::CONT),
            Open::Gone(what) => self.instance.bring_back(&what),
            Open::Deposed(what) => self.instance.rejoin(what),
            Open::FrozenBroker(pid) => kill_process(pid, Signal::CONT).expect("it is there"),
            Open::FullDisk(what) => {
                self.disk.as_ref().expect("a disk").free();
                self.instance.bring_back(&what);
            }
            Open::StalledPostgres => self.to_postgres.iter().for_each(Proxy::pass),
            Open::StalledKafka => self.to_kafka.iter().for_each(Proxy::pass),
        }
    }

    fn stopped(&mut self, slot: usize, is_alone: bool) {
        let mut relay = self.relays[slot].take().expect("it was told to stop");
        let status = relay.wait();
        self.note(&relay);
        // If Kafka or PostgreSQL was unreachable meanwhile, the relay may not have ended in order;
        // nor does it beside rows that the table keeps.
        let log = || relay.log().join("\n");
        let is_kept = relay.count_log("the table keeps acknowledged rows") > 0;
        assert!(
            status.success() || is_kept || !is_alone,
            "{status}:\n{}",
            log()
        );
    }

    fn begin_kill(&mut self, slots: Vec<usize>) -> Open {
        slots.iter().for_each(|slot| self.kill(*slot));
        Open::Killed(slots)
    }

    fn take_down(&mut self, what: &str, how: impl FnOnce(&Instance, &str)) -> Open {
        how(&self.instance, what);
        Open::Gone(what.to_owned())
    }

    /// A former leader that does not know it yet.
    fn depose(&mut self, pick: u32) -> Open {
        let slot = self.leader(pick);
        self.signal(slot, Signal::STOP);
        if let Some(relay) = &self.relays[slot] {
            self.end_sessions(&format!("LIKE 'doorbell % {}'", relay.pid()));
        }
        let is_deposed =
            |leaders: Vec<usize>| leaders.len() == OUTBOXES.len() && !leaders.contains(&slot);
        within(DEPOSED, || {
            self.leaders().is_some_and(is_deposed).then_some(())
        });
        Open::Frozen(slot)
    }

    /// An immediate shutdown, as `pg_ctl stop -m immediate` does it.
    fn quit_postgres(&self) {
        let pid = self.pid(match self.servers[0] {
            "postgres" => "POSTGRES_PID",
            _ => "POSTGRES_PID_STANDBY",
        });
        kill_process(pid, Signal::QUIT).expect("PostgreSQL runs");
        eventually("PostgreSQL ends", || (!is_alive(pid)).then_some(()));
    }

    /// From now on a commit waits for the standby, so that no committed row is lost; then the
    /// primary is killed.
    fn fail_over(&mut self) -> Open {
        let is_done = |what: &str, sql: &str| {
            eventually(what, || (self.database.number(sql)? > 0).then_some(()));
        };
        for sql in [
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
            "SELECT pg_reload_conf()",
        ] {
            eventually("the primary answers", || self.database.ask(sql));
        }
        is_done(
            "the standby is waited for",
            "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'",
        );
        let rows = eventually("the primary answers", || {
            self.database.ask("SELECT pg_current_wal_lsn()::text")
        });
        let written: String = rows[0].try_get(0).expect("a place in the log");
        is_done(
            "the standby has what was committed before",
            &format!("SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= '{written}'"),
        );
        let [primary, standby] = self.servers;
        self.instance.kill(primary);
        self.instance.promote(standby);
        self.servers = [standby, primary];
        Open::Deposed(primary)
    }

    fn fill_disk(&mut self) -> Open {
        let (what, variable) = match self.plan.nodes {
            Nodes::One => ("kafka", "KAFKA_PID"),
            Nodes::Three => ("kafka3-3", "KAFKA_PID_3_3"),
        };
        self.disk.as_ref().expect("a disk").fill();
        let pid = self.pid(variable);
        within(FULL, || (!is_alive(pid)).then_some(()));
        // A broker that has not noticed is killed with its disk.
        self.instance.kill(what);
        Open::FullDisk(what.into())
    }

    /// A relay that ended by itself has given up, which no relay may.
    pub(crate) fn check_relays(&mut self) {
        for relay in self.relays.iter_mut().flatten() {
            if let Some(status) = relay.ended() {
                panic!("a relay ended by itself, {status}: {:#?}", relay.log());
            }
        }
    }

    /// Stops all relays in order.
    pub(crate) fn strike(&mut self) {
        for slot in 0..self.relays.len() {
            self.signal(slot, Signal::TERM);
        }
        for slot in 0..self.relays.len() {
            self.stopped(slot, true);
        }
    }

    /// Returns the last log lines of the relays, to find out what hangs.
    pub(crate) fn words(&self) -> String {
        let last = |relay: &Relay| {
            let log = relay.log();
            let from = log.len().saturating_sub(15);
            format!("relay {}:\n{}", relay.pid(), log[from..].join("\n"))
        };
        let rows = self.database.number(ROWS);
        let all: Vec<String> = self.relays.iter().flatten().map(last).collect();
        format!("rows in the table: {rows:?}\n{}", all.join("\n"))
    }
}

/// Returns the topic of an outbox.
fn topic(world: &World, table: &str) -> String {
    format!("{}.{table}", world.name())
}

/// Whether the process exists and is not a zombie.
fn is_alive(pid: Pid) -> bool {
    let words = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
    words.is_ok_and(|words| !words.is_empty())
}

/// A copy of the server that looks for its primary five times a second.
fn start_standby(instance: &mut Instance) {
    let database = Database {
        urls: vec![instance.services().database_url],
    };
    database
        .ask("ALTER SYSTEM SET wal_retrieve_retry_interval = '200ms'")
        .expect("PostgreSQL runs");
    instance.bring_back("standby");
}

/// Returns `host:port` of a URL.
fn server(url: &str) -> &str {
    let (_, server) = url.split_once('@').expect("a user");
    server.split_once('/').expect("a database").0
}

/// Returns the URL of several servers, with their maintenance database.
fn url_of(hosts: impl Iterator<Item = String>) -> String {
    let hosts: Vec<String> = hosts.collect();
    format!("postgres://postgres@{}/postgres", hosts.join(","))
}

/// Starts a proxy before each broker, and returns their addresses.
fn before_kafka(instance: &Instance, nodes: Nodes) -> (Vec<Proxy>, String) {
    let suffix = match nodes {
        Nodes::One => "",
        Nodes::Three => "_3",
    };
    let [proxies, proxied] = ["PROXIES", "PROXIED"].map(|end| format!("KAFKA_{end}{suffix}"));
    let addresses = instance.variable(&proxies);
    let pairs = addresses
        .split(',')
        .zip(instance.variable(&proxied).split(','));
    let started = pairs.map(|(near, far)| Proxy::start(near, far)).collect();
    (started, addresses.to_owned())
}

fn write_log(folder: &Path, relay: &Relay) {
    let path = folder.join(format!("relay-{}.log", relay.pid()));
    std::fs::write(path, relay.log().join("\n")).expect("the folder to keep things in");
}
