//! The log says that rows do not get through, and that they do again, also without a page.

use crate::support::{Relay, World, create_topic};

#[test]
fn the_log_says_that_rows_do_not_get_through_where_no_port_is_open() {
    let mut world = World::new("incidents");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$; \
         CREATE TRIGGER no BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION no(); \
         INSERT INTO outbox (type) VALUES ('t')",
    );
    // The port is off, as in all tests that do not ask for it.
    let relay = Relay::leading(&world, &["--stuck-after", "1s"]);
    relay.assert_logged("rows do not get through: stuck: ", 1);
    world.sql("DROP TRIGGER no ON outbox");
    world.await_empty();
    relay.await_log("over after ");
    assert!(relay.stop().success());
}
