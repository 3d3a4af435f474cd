//! Waves of faults at relays, PostgreSQL and Kafka under load: nothing is lost, nothing is stuck, nothing is left behind.
//!
//! | file | what |
//! |---|---|
//! | `plan` | what is asked for, by flags |
//! | `schedule` | which faults come: chosen by the seed |
//! | `stage` | servers, relays and proxies, and how each fault is done |
//! | `database`, `disk` | the server that takes writes; a disk that can be filled |
//! | `writers`, `ledger` | the load, and what became of each row |
//! | `listener` | what a consumer saw, and when |
//! | `referee` | the judgement, beside `doorbell verify`, and what may not be left |
//! | `report` | the figures |
//!
//! `make chaos` runs it for long, and `scripts/chaos --help` lists its flags.

mod database;
mod disk;
mod ledger;
mod listener;
mod plan;
mod referee;
mod report;
mod schedule;
mod stage;
mod writers;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::Ledger;
use listener::Listener;
use plan::{Delivery, Plan};
use referee::Happened;
use report::Report;
use schedule::{Kind, Wave};
use stage::{PARTITIONS, Stage};
use writers::Writers;

/// Nothing is stuck: after the end of a fault all that was committed before it must arrive within this time. A broker that was killed
/// is up to 20 s away for its clients, on a busy machine more.
const RECOVERY: Duration = Duration::from_secs(120);

#[test]
fn waves_of_faults_lose_nothing_and_double_only_beside_a_fault() {
    run(Plan::of(&[]));
}

fn run(plan: Plan) {
    eprintln!("chaos: repeat with: scripts/chaos {}", plan.flags());
    for folder in plan.keep.iter().chain(&plan.out) {
        std::fs::create_dir_all(folder).expect("a folder to write to");
    }
    let mut stage = Stage::set(plan.clone());
    let schedule = schedule::waves(&plan, stage.has_disk());
    for (number, wave) in schedule.iter().enumerate() {
        eprintln!("chaos: wave {}: {wave}", number + 1);
    }
    let ledger = Arc::new(Ledger::new(plan.writers));
    let listener = Listener::start(
        &stage.world.services.kafka_brokers,
        &stage.world.topic,
        PARTITIONS,
        plan.delivery,
        Arc::clone(&ledger),
    );
    let writers = Writers::start(&ledger, &stage.database, plan.seed());
    let begun = Instant::now();
    let mut course = Course {
        ledger: &ledger,
        listener: &listener,
        settled: vec![0; ledger.writers()],
        happened: Vec::new(),
    };
    // Somebody leads.
    course.recover(&mut stage, &[], 1);
    for (number, wave) in schedule.iter().enumerate() {
        if plan
            .minutes
            .is_some_and(|minutes| begun.elapsed() > Duration::from_secs(minutes * 60))
        {
            eprintln!("chaos: the time is over");
            break;
        }
        let before = course.happened.len();
        course.pass(&mut stage, wave);
        let took = course.happened[before..]
            .iter()
            .map(|fault| fault.recovered - fault.ended)
            .max();
        eprintln!(
            "chaos: wave {} of {}, {wave}: over after {:?}",
            number + 1,
            schedule.len(),
            took.unwrap_or_default()
        );
        std::thread::sleep(wave.calm);
    }
    writers.stop();
    course.recover(&mut stage, &[], 0);
    finish(&mut stage, &ledger, &listener, &course.happened, begun);
}

/// A fault, when it began, and when it ended, unless that is now.
type Begun = (Kind, Instant, Option<Instant>);

/// The faults so far.
struct Course<'a> {
    ledger: &'a Ledger,
    listener: &'a Listener,
    settled: Vec<usize>,
    happened: Vec<Happened>,
}

impl Course<'_> {
    fn pass(&mut self, stage: &mut Stage, wave: &Wave) {
        let first = Instant::now();
        let opened = stage.begin(wave.first);
        let mut faults = vec![(wave.first.kind, first, None)];
        if let Some(second) = wave.second {
            std::thread::sleep(wave.first.lasts / 2);
            let began = Instant::now();
            let opened = stage.begin(second);
            std::thread::sleep(second.lasts);
            stage.end(opened, false);
            faults.push((second.kind, began, Some(Instant::now())));
            std::thread::sleep(wave.first.lasts / 2);
        } else {
            std::thread::sleep(wave.first.lasts);
        }
        stage.end(opened, wave.second.is_none());
        self.recover(stage, &faults, 1);
    }

    /// Waits until all that is committed by now has arrived, and so many rows that were begun later; notes the faults that this is the
    /// end of.
    fn recover(&mut self, stage: &mut Stage, faults: &[Begun], more: usize) {
        let ended = Instant::now();
        let mark = self.ledger.mark();
        loop {
            let missing = self.ledger.missing(&mut self.settled, &mark);
            if missing == 0 && self.ledger.arrived_since(&mark) >= more {
                break;
            }
            stage.check_relays();
            assert!(
                ended.elapsed() < RECOVERY,
                "{missing} rows have not arrived {RECOVERY:?} after {faults:?}\n{}\n{}",
                self.listener.words(),
                stage.words()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        let recovered = Instant::now();
        let note = |(kind, begun, over): &Begun| Happened {
            kind: *kind,
            begun: *begun,
            ended: over.unwrap_or(ended),
            recovered,
        };
        self.happened.extend(faults.iter().map(note));
    }
}

/// Stops the relays in order, and judges.
fn finish(
    stage: &mut Stage,
    ledger: &Ledger,
    listener: &Listener,
    faults: &[Happened],
    begun: Instant,
) {
    let empty = || (stage.database.number("SELECT count(*) FROM outbox")? == 0).then_some(());
    crate::support::eventually("the outbox is empty", empty);
    stage.strike();
    referee::nothing_left(stage);
    let mut rows = referee::rows(ledger, faults);
    rows.ids.sort_unstable();
    let verify = referee::verify(stage, &rows.ids);
    // What verify has read, the run's own consumer reads too.
    let records = verify["records"].as_u64().expect("a number") as usize;
    crate::support::eventually("the consumer has read all records", || {
        (listener.seen().records >= records).then_some(())
    });
    let seen = listener.seen();
    let rows = referee::rows(ledger, faults);
    let doubles = referee::doubles(&seen, faults);
    let report = Report::of(&stage.plan, begun, faults, (&rows, &seen, &doubles), verify);
    eprintln!("{}", report.text());
    write(&stage.plan, &report, faults, begun);
    assert_eq!(rows.lost, [""; 0], "lost");
    assert_eq!(rows.leaked, [""; 0], "rolled back, and yet sent");
    assert_eq!(seen.strangers, [""; 0], "nobody wrote them");
    assert!(
        seen.disorder.is_empty(),
        "out of order: {:?}",
        seen.disorder
    );
    assert_eq!(doubles.stray, [""; 0], "doubles beside no fault");
    if stage.plan.delivery == Delivery::ExactlyOnce {
        assert_eq!(seen.doubles.len(), 0, "{:?}", seen.doubles.first());
    }
    assert_eq!(report.verdict(), "ok", "doorbell verify");
}

fn write(plan: &Plan, report: &Report, faults: &[Happened], begun: Instant) {
    let json = serde_json::to_string_pretty(report).expect("plain data");
    if let Some(folder) = &plan.out {
        let name = report.name();
        std::fs::write(folder.join(format!("{name}.json")), json + "\n").expect("the folder");
        std::fs::write(folder.join(format!("{name}.md")), report.text()).expect("the folder");
    }
    if let Some(folder) = &plan.keep {
        keep(folder, faults, begun);
    }
}

/// Every fault on a line: when it began, ended, and all was well again, in milliseconds of the run.
fn keep(folder: &Path, faults: &[Happened], begun: Instant) {
    let line = |fault: &Happened| {
        let [began, ended, recovered] = [fault.begun, fault.ended, fault.recovered]
            .map(|at| at.saturating_duration_since(begun).as_millis());
        format!("{} {began} {ended} {recovered}\n", fault.kind)
    };
    let lines: String = faults.iter().map(line).collect();
    std::fs::write(folder.join("faults"), lines).expect("the folder to keep things in");
}
