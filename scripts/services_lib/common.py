"""Folders, locks, ports and processes: what every service needs, whatever it is."""

import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import random
import socket
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]

# Below 32768: above it, a stopped service's port may be taken by someone's outgoing connection before it is back.
PORTS = range(20000, 32768)


class Fault(Exception):
    """Something the caller has to put right; its text is all that is shown."""


def say(text):
    """Words for people go to stderr: stdout carries KEY=VALUE lines only."""
    print(f"services: {text}", file=sys.stderr, flush=True)


def capture(command, **options):
    """Runs a command whose output matters only when it fails."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False, **options)
    if done.returncode != 0:
        shown = " ".join(str(word) for word in command)
        raise Fault(f"`{shown}` failed with exit code {done.returncode}:\n{done.stdout.strip()[-3000:]}")
    return done.stdout.strip()


# --- who and where ---


def database_user():
    """PostgreSQL refuses to run as root, so root lends it an ordinary account. None: run it as yourself."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Fault("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as: "
                "`useradd --system postgres` makes one")


def as_user(user):
    """The arguments that make subprocess run a command as `user`."""
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def reachable(folder, user):
    """Whether `user` can walk down to `folder`. The system is asked, because ACLs and mounts count too."""
    return subprocess.run(["/bin/sh", "-c", 'cd "$0"', str(folder)], cwd="/", check=False, stdin=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, **as_user(user)).returncode == 0


def services_folder():
    """The folder of programs and data: `.services` of the repository, unless PostgreSQL's account cannot get there."""
    chosen = os.environ.get("DOORBELL_SERVICES_DIR")
    if chosen:
        folder = Path(chosen).resolve()
    elif reachable(REPO, database_user()):
        folder = REPO / ".services"
    else:
        # A clone under a home that only root may enter. Each clone has its own folder, found again by its path.
        folder = Path("/var/tmp") / ("doorbell-services-" + hashlib.sha256(str(REPO).encode()).hexdigest()[:12])
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise Fault(f"{folder} belongs to another user: set DOORBELL_SERVICES_DIR to a folder of your own")
    if not reachable(folder, database_user()):
        raise Fault(f"{folder} cannot be entered by the user that PostgreSQL runs as "
                    f"({database_user().pw_name}): set DOORBELL_SERVICES_DIR to another folder")
    return folder


@contextlib.contextmanager
def locked(folder, name):
    """One at a time, across processes. Lock files are never deleted: a waiter would hold the lock of a lost file."""
    path = folder / "locks" / f"{name}.lock"
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def installed(folder, program):
    """Yields a fresh folder to install `program` into, or None where a complete one is there already."""
    target = folder / "programs" / program
    stamp = target / ".complete"
    if stamp.exists():
        yield None
        return
    with locked(folder, "fetch"):
        if stamp.exists():
            yield None
            return
        if target.exists():
            capture(["rm", "-rf", target])
        target.mkdir(parents=True)
        yield target
        stamp.touch()


# --- ports ---


def port_is_free(port):
    with socket.socket() as probe:
        # Connections of the service's last life may linger in TIME_WAIT; they do not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
        return True


def remembered_ports(instance):
    try:
        return json.loads((instance / "ports.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def choose_ports(folder, instance, names):
    """The ports this instance had before; another one only where a stranger has taken it meanwhile."""
    with locked(folder, "ports"):
        ports = remembered_ports(instance)
        spoken_for = {port for other in instance.parent.iterdir() for port in remembered_ports(other).values()}
        for name in names:
            if name in ports and not port_is_free(ports[name]):
                say(f"port {ports[name]} of {instance.name}/{name} is taken by another program, choosing another")
                del ports[name]
            while name not in ports:
                port = random.choice(PORTS)
                if port not in spoken_for and port_is_free(port):
                    ports[name] = port
                    spoken_for.add(port)
        draft = instance / "ports.json.new"
        draft.write_text(json.dumps(ports), encoding="utf-8")
        draft.replace(instance / "ports.json")
    return [ports[name] for name in names]


# --- processes ---


def runs(pid, argument):
    """Whether `pid` is alive and was started with `argument`. The second half tells a reused process id apart."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(argument).encode() in words  # a zombie has no words left


def children(pid):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # `pid (name) state parent ...`, where the name may hold blanks and brackets
                if int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry.name))
    return found


def is_alive(pid):
    """Alive and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
