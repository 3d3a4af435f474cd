//! Ordinary traffic is no finding: nothing is concluded from a moment between two looks.

use crate::support::{Checkup, Load, Relay, World, create_topic};

#[test]
fn beside_writers_that_commit_at_once_nothing_is_cried() {
    let mut world = World::new("quiet");
    create_topic(&world, &world.topic, 3, &[]);
    let relay = Relay::leading(&world, &[]);
    let writers = [(); 3].map(|()| Load::start(&world));
    writers[0].await_rows(100);
    let text = |world: &World| {
        let output = world.doorbell(&["status"]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    for _ in 0..40 {
        let status = text(&world);
        for word in ["did not ring", "no relay", "stuck", "snapshot"] {
            assert!(!status.contains(word), "{word} in {status}");
        }
    }
    // Rows may be older than they are in the table, and flow all the same.
    world.sql("ALTER TABLE outbox ALTER created_at SET DEFAULT now() - interval '1 hour'");
    writers[0].await_rows(1_000);
    for _ in 0..3 {
        let status = text(&world);
        assert!(!status.contains("stuck"), "{status}");
        let checkup = Checkup::of(&world, &[]);
        checkup.lacks(&[
            "silent-writer",
            "leader-stranger",
            "bell-stranger",
            "snapshot-held",
            "no-leader",
            "stuck",
            "table-locked",
            "sequence-behind",
            "connections",
        ]);
    }
    for writer in writers {
        writer.stop();
    }
    world.await_empty();
    assert!(relay.stop().success());
}
