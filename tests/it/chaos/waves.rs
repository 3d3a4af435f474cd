//! The waves, one after the other, and the verdict after each.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::database::{OUTBOXES, ROWS};
use super::ledger::Ledger;
use super::listener::Listener;
use super::plan::{Delivery, Plan};
use super::referee::{self, Happened};
use super::report::Report;
use super::schedule::{self, Kind, Wave};
use super::stage::{PARTITIONS, Stage};
use super::writers::Writers;

/// After the end of a fault, everything committed before it must arrive within this time. A killed
/// broker is unreachable for its clients for up to 20 s, longer on a busy machine.
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
        OUTBOXES.map(|table| stage.topic(table)).to_vec(),
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
    // Until a relay leads.
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

/// A fault, when it began, and when it ended; no end if it lasts.
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

    /// Waits until everything committed by now has arrived, plus so many rows begun later. Notes
    /// the faults that end with this.
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

/// Stops the relays in order, and gives the verdict.
fn finish(
    stage: &mut Stage,
    ledger: &Ledger,
    listener: &Listener,
    faults: &[Happened],
    begun: Instant,
) {
    let uncite = || stage.database.ask("DELETE FROM citation");
    crate::support::eventually("no row is referenced", uncite);
    let empty = || (stage.database.number(ROWS)? == 0).then_some(());
    crate::support::eventually("the outboxes are empty", empty);
    stage.strike();
    referee::nothing_left(stage);
    let mut rows = referee::rows(ledger, faults);
    let mut records = 0;
    let mut verify = BTreeMap::new();
    for (outbox, ids) in rows.ids.iter_mut().enumerate() {
        ids.sort_unstable();
        let found = referee::verify(stage, outbox, ids);
        records += found["records"].as_u64().expect("a number") as usize;
        verify.insert(OUTBOXES[outbox], found);
    }
    // The run's own consumer reads everything that verify has read.
    crate::support::eventually("the consumer has read all records", || {
        (listener.seen().records >= records).then_some(())
    });
    let seen = listener.seen();
    let rows = referee::rows(ledger, faults);
    let duplicates = referee::duplicates(&seen, faults);
    let report = Report::of(
        &stage.plan,
        begun,
        faults,
        (&rows, &seen, &duplicates),
        verify,
    );
    eprintln!("{}", report.text());
    write(&stage.plan, &report, faults, begun);
    assert_eq!(rows.lost, [""; 0], "lost");
    assert_eq!(rows.leaked, [""; 0], "rolled back, and yet sent");
    assert_eq!(seen.strangers, [""; 0], "no writer wrote them");
    assert!(
        seen.disorder.is_empty(),
        "out of order: {:?}",
        seen.disorder
    );
    assert_eq!(duplicates.stray, [""; 0], "duplicates beside no fault");
    if stage.plan.delivery == Delivery::ExactlyOnce {
        assert_eq!(seen.duplicates.len(), 0, "{:?}", seen.duplicates.first());
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

/// Lists every fault on a line: begin, end, and recovery, in milliseconds of the run.
fn keep(folder: &Path, faults: &[Happened], begun: Instant) {
    let line = |fault: &Happened| {
        let [began, ended, recovered] = [fault.begun, fault.ended, fault.recovered]
            .map(|at| at.saturating_duration_since(begun).as_millis());
        format!("{} {began} {ended} {recovered}\n", fault.kind)
    };
    let lines: String = faults.iter().map(line).collect();
    std::fs::write(folder.join("faults"), lines).expect("the folder to keep things in");
}
