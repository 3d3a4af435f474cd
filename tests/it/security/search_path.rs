//! Where others may create objects in a schema of the `search_path`, none of them runs as a role of
//! ours.

use crate::support::{Consumer, Relay, Services, World, create_topic, doorbell, get};

/// Functions and operators that fit our values better than those of PostgreSQL, where they are
/// looked for. Each notes the role that runs it.
const PLANTED: &str = "CREATE TABLE public.stolen (who text, what text, application text); GRANT INSERT ON public.stolen TO PUBLIC; \
    CREATE FUNCTION public.steal(what text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN \
        INSERT INTO public.stolen VALUES (current_user, what, current_setting('application_name')); END $$; \
    CREATE FUNCTION public.unnest(bigint[]) RETURNS SETOF bigint LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM public.steal('unnest bigint'); RETURN QUERY SELECT pg_catalog.unnest($1); END $$; \
    CREATE FUNCTION public.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM public.steal('unnest text'); RETURN QUERY SELECT pg_catalog.unnest($1); END $$; \
    CREATE FUNCTION public.unnest(timestamptz[]) RETURNS SETOF timestamptz LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM public.steal('unnest times'); RETURN QUERY SELECT pg_catalog.unnest($1); END $$; \
    CREATE FUNCTION public.cardinality(bigint[]) RETURNS int LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM public.steal('cardinality'); RETURN pg_catalog.cardinality($1); END $$; \
    CREATE FUNCTION public.concat(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM public.steal('concat'); RETURN pg_catalog.concat($1, $2); END $$; \
    CREATE FUNCTION public.oid_is(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM public.steal('oid = regclass'); RETURN $1 OPERATOR(pg_catalog.=) $2::oid; END $$; \
    CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = regclass, FUNCTION = public.oid_is); \
    CREATE FUNCTION public.are(bigint[], bigint[]) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM public.steal('bigint[] = bigint[]'); RETURN pg_catalog.array_eq($1, $2); END $$; \
    CREATE OPERATOR public.= (LEFTARG = bigint[], RIGHTARG = bigint[], FUNCTION = public.are); \
    CREATE FUNCTION public.times(double precision, interval) RETURNS interval LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM public.steal('float8 * interval'); RETURN $2 OPERATOR(pg_catalog.*) $1; END $$; \
    CREATE OPERATOR public.* (LEFTARG = double precision, RIGHTARG = interval, FUNCTION = public.times); \
    CREATE FUNCTION public.more(double precision, integer) RETURNS double precision LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM public.steal('float8 + int'); RETURN $1 OPERATOR(pg_catalog.+) $2::float8; END $$; \
    CREATE OPERATOR public.+ (LEFTARG = double precision, RIGHTARG = integer, FUNCTION = public.more); \
    CREATE OPERATOR public.* (LEFTARG = double precision, RIGHTARG = integer, FUNCTION = public.more); \
    CREATE FUNCTION public.joined(text, oid) RETURNS text LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM public.steal('text || oid'); RETURN $1 OPERATOR(pg_catalog.||) $2::text; END $$; \
    CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = oid, FUNCTION = public.joined); \
    CREATE FUNCTION public.octet_length(jsonb) RETURNS int LANGUAGE plpgsql AS $$ BEGIN \
        PERFORM public.steal('octet_length'); RETURN 1; END $$";

/// A database in which a role that may only create objects in `public` has made the above, and in
/// which the outbox is found by its bare name alone. Identifiers are quoted where others want that.
fn planted(test: &str) -> (World, String) {
    let mut world = World::empty(test, Services::shared().clone());
    let name = world.name().to_owned();
    let role = format!("{name}_planter");
    world.sql(&format!(
        "CREATE SCHEMA app; GRANT CREATE ON SCHEMA public TO PUBLIC; CREATE ROLE {role} LOGIN; \
         ALTER DATABASE {name} SET search_path = app, public; ALTER DATABASE {name} SET quote_all_identifiers = on"
    ));
    let mut session = world.connect_to(&world.url_as(&role));
    world.sql_on(&mut session, PLANTED);
    world.sql("SET search_path = pg_catalog, app");
    (world, role)
}

fn drop_role(world: &mut World, role: &str) {
    world.sql(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}"));
}

#[track_caller]
fn succeeds(world: &World, arguments: &[&str]) {
    let output = world.doorbell(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

#[test]
fn what_others_put_into_the_search_path_never_runs_as_a_role_of_ours() {
    let (mut world, role) = planted("planted");
    create_topic(&world, &world.topic, 1, &[]);
    let topic = world.topic.clone();
    let receipts = topic.replace("outbox", "receipts");
    world.will_delete(&receipts);
    // Twice: the second time everything is there already.
    succeeds(&world, &["migrate"]);
    world.sql("ALTER TABLE outbox RESET (fillfactor)");
    succeeds(&world, &["migrate"]);
    assert_eq!(
        world.texts("SELECT name FROM doorbell.outbox"),
        ["app.outbox"]
    );
    world.sql(include_str!("../../../sql/strict_order.sql"));
    world.sql("SELECT doorbell.keep_order('outbox')");

    let once = ["--delivery", "exactly-once", "--receipts", &receipts];
    for delivery in [&[][..], &once] {
        let flags = [&["--listen", "127.0.0.1:0"], delivery].concat();
        let relay = Relay::leading(&world, &flags);
        succeeds(&world, &["emit", "--type", "t", "--key", "k", "x"]);
        world.sql("INSERT INTO outbox (type, headers) VALUES ('t', '[]'), ('t', '[]')");
        world.await_empty();
        for path in ["/dead", "/relays", "/readyz", "/metrics"] {
            assert_eq!(get(&relay, path).code, 200, "{path}");
        }
        succeeds(&world, &["pause"]);
        relay.await_log("pausing");
        world.sql("INSERT INTO outbox (type, key) SELECT 't', 'k' FROM generate_series(1, 20)");
        for command in [
            &["status"][..],
            &["check", "--topic", &topic],
            &["dead", "list"],
            &["dead", "retry", "--all"],
            &["resume"],
        ] {
            if command[0] == "check" {
                // What it finds is not the question.
                world.doorbell(command);
            } else {
                succeeds(&world, command);
            }
        }
        world.await_empty();
        assert!(relay.stop().success());
        succeeds(&world, &["dead", "drop", "--all", "--yes"]);
    }
    succeeds(&world, &["verify", "--topic", &topic]);
    succeeds(&world, &["drain", "--topic", &topic]);
    succeeds(&world, &["receipts", "accept"]);
    succeeds(&world, &["migrate", "--undo"]);

    let stolen = "SELECT what || ' in ' || application FROM public.stolen WHERE application LIKE 'doorbell%'";
    assert_eq!(world.texts(stolen), [""; 0]);
    drop_role(&mut world, &role);
}

#[test]
fn a_schema_that_another_role_made_is_not_migrated() {
    let (mut world, role) = planted("madebefore");
    let name = world.name().to_owned();
    world.sql(&format!("GRANT CREATE ON DATABASE {name} TO {role}"));
    let mut session = world.connect_to(&world.url_as(&role));
    world.sql_on(
        &mut session,
        "CREATE SCHEMA doorbell; CREATE TABLE doorbell.outbox (name text PRIMARY KEY, id uuid, created_at timestamptz); \
         CREATE FUNCTION doorbell.mine() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.steal('trigger'); RETURN NEW; END $$; \
         CREATE TRIGGER mine BEFORE INSERT ON doorbell.outbox FOR EACH ROW EXECUTE FUNCTION doorbell.mine()",
    );
    let refuses = |world: &World, what: &str| {
        let output = world.doorbell(&["migrate"]);
        let words = ["is owned neither by role postgres", what, &role];
        crate::support::refused(&output, 1, &words);
    };
    refuses(&world, "schema doorbell");
    world.sql("ALTER SCHEMA doorbell OWNER TO postgres");
    refuses(&world, "table doorbell.outbox");
    world.sql("DROP TABLE doorbell.outbox");
    refuses(&world, "function doorbell.mine()");
    assert_eq!(world.number("SELECT count(*) FROM public.stolen"), 0);
    assert_eq!(
        world.number("SELECT count(*) FROM pg_class WHERE relnamespace = 'doorbell'::regnamespace"),
        0
    );
    // The owner of the database is trusted.
    world.sql(&format!("ALTER DATABASE {name} OWNER TO {role}"));
    let output = doorbell(&world, &["migrate"]).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    world.sql(&format!("ALTER DATABASE {name} OWNER TO postgres"));
    drop(session);
    drop_role(&mut world, &role);
}

#[test]
fn a_trigger_that_needs_another_search_path_is_named_and_its_rows_are_sent_once() {
    let mut world = World::new("ownpath");
    create_topic(&world, &world.topic, 1, &[]);
    world.sql(
        "CREATE TABLE history (id bigint); CREATE FUNCTION keep_history() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO history VALUES (OLD.id); RETURN OLD; END $$; \
         CREATE TRIGGER history BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION keep_history()",
    );
    let relay = Relay::leading(&world, &[]);
    let mut consumer = Consumer::new(&world, &world.topic);
    world.sql("INSERT INTO outbox (type, payload) VALUES ('t', 'x'), ('t', 'y')");
    consumer.await_records(2);
    relay.await_log("keep_history() line 1");
    relay.await_log("need names with their schema");
    world.sql("ALTER FUNCTION keep_history() SET search_path = public");
    world.await_empty();
    assert_eq!(world.number("SELECT count(*) FROM history"), 2);
    assert_eq!(consumer.drain().len(), 2);
    assert!(relay.stop().success());
}
