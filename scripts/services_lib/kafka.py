"""Apache Kafka as one KRaft node, its libraries fetched by Maven."""

import base64
import os
import shutil
import socket
import struct
import uuid
from pathlib import Path

from .common import Fault, capture, choose_ports, installed, runs, say
from .service import Service

VERSION = "4.3.1"
POM = Path(__file__).with_name("kafka-pom.xml")

SETTINGS = """\
# Written by scripts/services at every start.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
num.partitions=6
auto.create.topics.enable=true
# One node cannot hold three copies of its own topics.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# The first consumer would otherwise wait for 50 partitions, and each one 3 s for company in its group.
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
# After a kill, the node waits until the session of its former life has ended (9 s by default).
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""


class Kafka(Service):
    what = "kafka"
    title = f"Kafka {VERSION}"
    port_names = ("kafka", "kafka-controller")

    def __init__(self, folder, name):
        super().__init__(folder, name)
        self.settings = self.home / "server.properties"
        self.pid_file = self.home / "pid"
        self.data = self.home / "data"
        self.libraries = folder / "programs" / f"kafka-{VERSION}" / "libs"

    def fetch(self):
        with installed(self.services, f"kafka-{VERSION}") as target:
            if target is None:
                return
            say(f"fetching Kafka {VERSION} (Maven)")
            if shutil.which("mvn") is None:
                raise Fault("Maven is missing; `scripts/need` names everything that is")
            capture(["mvn", "-q", "-B", "-f", POM, "dependency:copy-dependencies",
                     f"-DoutputDirectory={self.libraries}"])

    def prepare(self):
        self.home.mkdir(parents=True, exist_ok=True)
        port, controller = choose_ports(self.services, self.instance, self.port_names)
        self.settings.write_text(SETTINGS.format(port=port, controller=controller, data=self.data), encoding="utf-8")
        if not (self.data / "meta.properties").exists():
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
            capture([*self._java(), "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}",
                     f"--config={self.settings}"], cwd=self.home)
        return [*self._java(), "kafka.Kafka", self.settings]

    def _java(self):
        home = os.environ.get("JAVA_HOME")
        java = Path(home, "bin/java") if home else "java"
        log = ["-Dorg.slf4j.simpleLogger.showDateTime=true",
               "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS"]
        return [java, "-Xms128m", "-Xmx768m", *log, "-cp", f"{self.libraries}/*"]

    def launched(self, pid):
        self.pid_file.write_text(str(pid), encoding="utf-8")

    def pid(self):
        try:
            pid = int(self.pid_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return pid if runs(pid, self.settings) else None

    def answers(self):
        return self.pid() is not None and broker_answers("127.0.0.1", self.port)

    def variables(self):
        return {"KAFKA_BROKERS": f"127.0.0.1:{self.port}", "KAFKA_PID": str(self.pid())}


def broker_answers(host, port, limit=3):
    """Asks for the cluster's metadata, and whether it counts a broker: an open port alone is not yet a broker."""
    metadata, version, correlation, no_client_id, no_topics, no_creation = 3, 4, 1, -1, 0, 0
    body = struct.pack(">hhihib", metadata, version, correlation, no_client_id, no_topics, no_creation)
    try:
        with socket.create_connection((host, port), timeout=limit) as connection:
            connection.settimeout(limit)
            connection.sendall(struct.pack(">i", len(body)) + body)
            size, _correlation, _throttle, brokers = struct.unpack(">iiii", _read(connection, 16))
            return size > 12 and brokers > 0
    except OSError:
        return False


def _read(connection, count):
    got = b""
    while len(got) < count:
        more = connection.recv(count - len(got))
        if not more:
            raise ConnectionResetError("closed in the middle of an answer")
        got += more
    return got
