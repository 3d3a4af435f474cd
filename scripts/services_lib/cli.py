"""The commands of scripts/services."""

import argparse
import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys

from . import kafka, postgres
from .chromium import Axe, Chromium
from .common import Fault, capture, locked, remembered_ports, say, services_folder
from .debezium import Debezium
from .given import VARIABLES, check, given
from .kafka import NODES, Kafka, KafkaNode
from .pgbouncer import PgBouncer
from .postgres import Postgres, Postgres15, Standby

KINDS = {kind.what: kind for kind in (Postgres, Standby, Postgres15, *postgres.OTHERS, PgBouncer, Kafka, *NODES, *kafka.OTHERS)}
# Programs that nothing here starts.
PROGRAMS = {kind.what: kind for kind in (Debezium, Chromium, Axe)}
GROUPS = {"kafka3": list(KafkaNode.cluster)}
DEFAULT = ["postgres", "kafka"]
PAIR = [Postgres.what, Standby.what]

EPILOG = """\
WHAT is any of: postgres (18), standby (a copy that follows the instance's postgres), postgres15, pgbouncer (in
transaction mode, before the instance's postgres), kafka, kafka3 (a cluster of the nodes kafka3-1, kafka3-2 and kafka3-3,
each of which may be named by itself); for scripts/matrix postgres-14 to postgres-18 and kafka-3.9, kafka-4.0, kafka-4.4, in an
instance of their own; none given: postgres and kafka.
`fetch` also takes debezium, which the benchmark starts, and chromium and axe, which the tests of the page need: nothing
here starts them; it prints KEY=VALUE lines that say where they are.
NAME is an instance with data and ports of its own (default: main).
`start` and `env` print KEY=VALUE lines on stdout: DATABASE_URL, KAFKA_BROKERS and, for what this script runs itself,
POSTGRES_BIN, POSTGRES_DATA, POSTGRES_PID, KAFKA_PID and KAFKA_DATA (PostgreSQL 15: the same with _15; a standby: with
_STANDBY; PgBouncer: DATABASE_URL_POOLED and PGBOUNCER_PID; the cluster: KAFKA_BROKERS_3, KAFKA_PID_3_1, ...).
KAFKA_PROXIED are listeners that advertise the addresses KAFKA_PROXIES, which have no listener: a proxy may bind them.
`start --add kafka=FILE` adds the lines of FILE to the settings of that service, for this start and later ones. {port:NAME} in it
becomes a free port, printed as KAFKA_PORT_NAME, {port} and {controller} the usual ones; and a line
`# user: SCRAM-SHA-256=[name=N,password=P]` creates a user with the data.
DATABASE_URL and KAFKA_BROKERS of the environment are used instead of starting a service (instance main).
Programs and data lie in .services of the repository (DOORBELL_SERVICES_DIR: elsewhere). DOORBELL_KAFKA_OPTS are options of
Java for Kafka.
"""


def main(argv):
    command = []
    if "--" in argv:
        split = argv.index("--")
        argv, command = argv[:split], argv[split + 1:]
    options = _parser().parse_args(argv)
    if bool(command) != (options.verb == "run"):
        _parser().error("`run` needs `-- COMMAND`, and no other command takes it")
    # Regardless of the caller's mask: PostgreSQL's account must be able to read programs that root has installed.
    options.umask = os.umask(0o022)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))  # unwinds, so a start cleans up
    try:
        if not sys.platform.startswith("linux"):
            raise Fault("starts services on Linux only; elsewhere set DATABASE_URL and KAFKA_BROKERS to your own")
        return globals()["do_" + options.verb](services_folder(), options, command) or 0
    except Fault as fault:
        say(str(fault))
        return 1
    except KeyboardInterrupt:
        return 130


def _parser():
    parser = argparse.ArgumentParser(prog="scripts/services", epilog=EPILOG,
                                     description="Fetches, starts and stops a real PostgreSQL and a real Kafka.",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for verb, text, takes in (
        ("fetch", "install the programs only", "what"),
        ("start", "start what does not run, wait until it answers", "name add what"),
        ("stop", "stop cleanly, keep the data", "name what all"),
        ("kill", "end by SIGKILL, keep the data", "name what all"),
        ("promote", "make a standby the primary (default: standby); the former one should have been killed", "name pair"),
        ("rejoin", "rebuild a stopped server as the standby of the other (default: postgres), and start it", "name pair"),
        ("remove", "stop, and delete the instance's data", "name all"),
        ("status", "what runs, and where", "json"),
        ("env", "print the variables of what runs", "name"),
        ("run", "start, run a command with the variables set, stop what was started", "name what"),
    ):
        one = verbs.add_parser(verb, help=text, description=text)
        if "name" in takes:
            one.add_argument("--name", default="main", type=_instance_name, help="the instance (default: main)")
        if "all" in takes:
            one.add_argument("--all", action="store_true", help="every instance of this folder")
        if "add" in takes:
            one.add_argument("--add", action="append", default=[], type=_added, metavar="WHAT=FILE",
                             help="more settings for a service")
        if "what" in takes:
            one.add_argument("what", nargs="*", metavar="WHAT", help=", ".join([*KINDS, *GROUPS]))
        if "pair" in takes:
            one.add_argument("what", nargs="?", choices=PAIR, default=PAIR[verb == "promote"], help="which of the two")
        if "json" in takes:
            one.add_argument("--json", action="store_true", help="for programs")
    return parser


def _added(text):
    what, _, path = text.partition("=")
    try:
        with open(path, encoding="utf-8") as file:
            return what, file.read()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"WHAT=FILE, with a file that can be read ({error.strerror})") from None


def _instance_name(text):
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", text):
        raise argparse.ArgumentTypeError("letters, digits, `-` and `_` only")
    return text


def _services(folder, name, kinds):
    kinds = [kind for asked in kinds for kind in GROUPS.get(asked, [asked])]
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise Fault(f"unknown service `{unknown[0]}`: it is one of {', '.join([*KINDS, *GROUPS])}")
    return [KINDS[kind](folder, name) for kind in KINDS if kind in kinds]  # the server before its pooler


def _print(variables):
    for key, value in variables.items():
        print(f"{key}={value}")


# --- commands ---


def do_fetch(folder, options, _command):
    asked = options.what or DEFAULT
    for service in _services(folder, "main", [what for what in asked if what not in PROGRAMS]):
        service.fetch()
    for program in [kind(folder) for what, kind in PROGRAMS.items() if what in asked]:
        program.fetch()
        _print(program.variables())


def do_start(folder, options, _command):
    with locked(folder, options.name):
        for what, lines in options.add:
            for service in _services(folder, options.name, [what]):
                service.add(lines)
        variables, _started = _bring_up(folder, options)
        # Asked for by name, so a `run` that began earlier does not take them down at its end.
        _borrowed(folder, options.name).unlink(missing_ok=True)
    _print(variables)


def _bring_up(folder, options):
    """Starts what does not run; returns the variables of all of them, and which were started."""
    variables, ours = {}, []
    for service in _services(folder, options.name, options.what or DEFAULT):
        own = given(service)
        if own:
            check(service, own[VARIABLES[service.what]])
            variables.update(own)
        else:
            service.fetch()
            ours.append(service)
    for service in ours:
        service.instance.mkdir(parents=True, exist_ok=True)
        if service.pid() is not None:
            service.say_running()
    started = [service for service in ours if service.pid() is None]
    try:
        for answered in [service.start() for service in started]:
            answered()
    except BaseException:
        for service in started:
            with contextlib.suppress(Fault):
                service.stop()
        raise
    for service in ours:
        variables.update(service.variables())
    return variables, started


def do_stop(folder, options, _command):
    for name in _names(folder, options):
        with locked(folder, name):
            for service in _services(folder, name, options.what or KINDS):
                service.stop()


def do_kill(folder, options, _command):
    for name in _names(folder, options):
        with locked(folder, name):
            for service in _services(folder, name, options.what or KINDS):
                service.kill()


def do_promote(folder, options, _command):
    with locked(folder, options.name):
        [server] = _services(folder, options.name, [options.what])
        server.promote()
        _print(server.variables())


def do_rejoin(folder, options, _command):
    with locked(folder, options.name):
        [server] = _services(folder, options.name, [options.what])
        server.rejoin()
        server.start()()
        _print(server.variables())


def do_remove(folder, options, _command):
    for name in _names(folder, options):
        with locked(folder, name):
            for service in _services(folder, name, KINDS):
                service.stop()
            capture(["rm", "-rf", folder / "instances" / name])


def _names(folder, options):
    return sorted(entry.name for entry in folder.glob("instances/*")) if options.all else [options.name]


def do_env(folder, options, _command):
    variables = {}
    for service in _services(folder, options.name, KINDS):
        own = given(service)
        if own:
            check(service, own[VARIABLES[service.what]])
            variables.update(own)
        elif service.pid() is not None:
            variables.update(service.variables())
    if not variables:
        raise Fault(f"nothing runs in instance {options.name}: `scripts/services start --name {options.name}`")
    _print(variables)


def do_status(folder, options, _command):
    found = []
    for instance in sorted(folder.glob("instances/*")):
        for service in _services(folder, instance.name, KINDS):
            if service.home.exists():
                port = remembered_ports(instance).get(service.port_names[0])
                found.append({"name": service.name, "what": service.what, "pid": service.pid(), "port": port,
                              "log": str(service.log)})
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"folder: {folder}")
    for entry in found:
        state = f"runs, pid {entry['pid']}" if entry["pid"] else "stopped"
        print(f"{entry['name']:12} {entry['what']:12} {state:18} port {entry['port']}  log {entry['log']}")


def do_run(folder, options, command):
    with _user_of(folder, options.name) as alone:
        with locked(folder, options.name):
            variables, started = _bring_up(folder, options)
            with open(_borrowed(folder, options.name), "a", encoding="utf-8") as file:
                file.writelines(service.what + "\n" for service in started)
        try:
            return _run_command(command, variables, options.umask)
        finally:
            with locked(folder, options.name):
                if alone():
                    _give_back(folder, options.name)


# --- run ---


def _borrowed(folder, name):
    """Lists the services that a `run` started, for the last `run` of that instance to stop."""
    return folder / "locks" / f"{name}.borrowed"


@contextlib.contextmanager
def _user_of(folder, name):
    """Counts as a user of the instance; yields a function that gives that up and tells whether it was the last one."""
    path = folder / "locks" / f"{name}.users"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_SH)

        def alone():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        yield alone


def _give_back(folder, name):
    borrowed = _borrowed(folder, name)
    if borrowed.exists():
        for service in _services(folder, name, borrowed.read_text(encoding="utf-8").split()):
            service.stop()
        borrowed.unlink()


def _run_command(command, variables, umask):
    """Runs the command with our terminal. Ctrl-C reaches it from the terminal; what reaches only us is passed on."""
    try:
        child = subprocess.Popen(command, env={**os.environ, **variables}, umask=umask)
    except OSError as error:
        raise Fault(f"cannot run `{command[0]}`: {error.strerror}") from error
    signal.signal(signal.SIGINT, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: child.send_signal(number))
    code = child.wait()
    return code if code >= 0 else 128 - code
