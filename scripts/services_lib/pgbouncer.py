"""PgBouncer in transaction mode before the PostgreSQL of the same instance: what many writers connect through."""

import os
import shutil

from .common import Fault, choose_ports, database_user, installed, remembered_ports, runs, say
from .debian import unpack
from .postgres import postgres_answers
from .service import Service

# Debian's package puts it where only root has a PATH to.
PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])

SETTINGS = """\
; Written by scripts/services at every start.
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = transaction
auth_type = trust
auth_file = {users}
admin_users = postgres
ignore_startup_parameters = extra_float_digits
"""


class PgBouncer(Service):
    what = "pgbouncer"
    title = "PgBouncer"
    port_names = ("pgbouncer",)

    def __init__(self, folder, name):
        super().__init__(folder, name)
        self.settings = self.home / "pgbouncer.ini"
        self.users = self.home / "users"
        self.pid_file = self.home / "pid"
        self.unpacked = folder / "programs/pgbouncer"

    def fetch(self):
        if shutil.which("pgbouncer", path=PLACES):
            return
        if shutil.which("apt-get") is None:
            raise Fault("PgBouncer comes from Debian's package `pgbouncer`, and there is no apt here; "
                        "a `pgbouncer` in the PATH is used as it is")
        with installed(self.services, "pgbouncer") as target:
            if target is not None:
                say("fetching PgBouncer (Debian's package pgbouncer)")
                unpack(target, "pgbouncer")

    def user(self):
        return database_user()  # it refuses to run as root, as PostgreSQL does

    def prepare(self):
        server = remembered_ports(self.instance).get("postgres")
        if server is None:
            raise Fault("PgBouncer stands before the PostgreSQL of its instance: start `postgres pgbouncer`")
        self.home.mkdir(parents=True, exist_ok=True)
        [port] = choose_ports(self.services, self.instance, self.port_names)
        self.users.write_text('"postgres" ""\n', encoding="utf-8")
        self.settings.write_text(SETTINGS.format(server=server, port=port, users=self.users), encoding="utf-8")
        program = shutil.which("pgbouncer", path=PLACES)
        if program:
            return [program, self.settings]
        # `env` becomes the program, so the process id stays.
        libraries = ":".join(str(folder) for folder in sorted(self.unpacked.glob("usr/lib/*-linux-*")))
        return ["/usr/bin/env", f"LD_LIBRARY_PATH={libraries}", self.unpacked / "usr/sbin/pgbouncer", self.settings]

    def launched(self, pid):
        self.pid_file.write_text(str(pid), encoding="utf-8")

    def pid(self):
        try:
            pid = int(self.pid_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return pid if runs(pid, self.settings) else None

    def answers(self):
        return self.pid() is not None and postgres_answers("127.0.0.1", self.port)

    def variables(self):
        return {"DATABASE_URL_POOLED": f"postgres://postgres@127.0.0.1:{self.port}/postgres",
                "PGBOUNCER_PID": str(self.pid())}
