"""Apache Kafka by KRaft, as one node or as one of three, its libraries fetched by Maven."""

import base64
import os
import re
import shutil
import socket
import struct
import uuid
from pathlib import Path

from .common import Fault, capture, choose_ports, installed, remembered_ports, runs, say
from .service import Service

VERSION = "4.3.1"
# Those of scripts/matrix: the last of an older line, the first without ZooKeeper, and the newest.
OTHER_VERSIONS = {"3.9": "3.9.2", "4.0": "4.0.2", "4.4": "4.4.0"}
POM = Path(__file__).with_name("kafka-pom.xml")

# In added settings: a port of their own, printed as KAFKA_PORT_NAME; and a user with a password for SCRAM, created with the data.
PORT = re.compile(r"\{port:([a-z]+)\}")
SCRAM = "# user: "

SETTINGS = """\
# Written by scripts/services at every start.
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
# The listener PROXIED advertises the address `proxy`, where a test may start a proxy before `proxied`.
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},PROXIED://127.0.0.1:{proxied}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxy}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT
log.dirs={data}
num.partitions=6
auto.create.topics.enable=true
# A record has the time of its row, which tests place years ago. The broker's sweep every five minutes must not delete it.
log.retention.ms=-1
# As many replicas as there are nodes, and acknowledged by all but one of three.
default.replication.factor={copies}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={copies}
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
# The first consumer would otherwise wait for 50 partitions, and each one 3 s for others to join its group.
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
# After a kill, the node waits until its previous session has expired (9 s by default).
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""


class Kafka(Service):
    what = "kafka"
    version = VERSION
    title = f"Kafka {VERSION}"
    own_ports = ("kafka", "kafka-controller", "kafka-proxied")
    node = 1
    cluster = ("kafka",)  # the services that are its nodes, in the order of their ids
    memory = "768m"
    suffix = ""  # of its variables
    pid_variable = "KAFKA_PID"

    def __init__(self, folder, name):
        super().__init__(folder, name)
        self.more = self.home / "more.properties"
        self.settings = self.home / "server.properties"
        self.pid_file = self.home / "pid"
        self.data = self.home / "data"
        self.libraries = folder / "programs" / f"kafka-{self.version}" / "libs"

    def fetch(self):
        with installed(self.services, f"kafka-{self.version}") as target:
            if target is None:
                return
            say(f"fetching Kafka {self.version} (Maven)")
            if shutil.which("mvn") is None:
                raise Fault("Maven is missing; `scripts/need` names everything that is")
            capture(["mvn", "-q", "-B", "-f", POM, "dependency:copy-dependencies", f"-Dkafka.version={self.version}",
                     f"-DoutputDirectory={self.libraries}"])

    def add(self, lines):
        self.home.mkdir(parents=True, exist_ok=True)
        self.more.write_text(lines, encoding="utf-8")

    def _more(self):
        return self.more.read_text(encoding="utf-8") if self.more.exists() else ""

    @property
    def port_names(self):
        """Its own, and those that added settings ask for as {port:NAME}."""
        return self.own_ports + tuple(sorted({f"kafka-{name}" for name in PORT.findall(self._more())}))

    def prepare(self):
        self.home.mkdir(parents=True, exist_ok=True)
        ports = self._ports()
        voters = [f"{node}@127.0.0.1:{ports[what + '-controller']}" for node, what in enumerate(self.cluster, 1)]
        copies = len(self.cluster)
        own = {name: ports[self.what + ending] for name, ending in
               (("port", ""), ("controller", "-controller"), ("proxied", "-proxied"), ("proxy", "-proxy"))}
        settings = SETTINGS.format(node=self.node, voters=",".join(voters), data=self.data, copies=copies,
                                   in_sync=(copies + 1) // 2, **own)
        # Of two lines for one key the later one counts.
        more = PORT.sub(lambda match: str(ports[f"kafka-{match[1]}"]), self._more())
        for name in ("port", "controller"):
            more = more.replace("{" + name + "}", str(own[name]))
        self.settings.write_text(settings + more, encoding="utf-8")
        if not (self.data / "meta.properties").exists():
            # The same for each node, and another one for each instance.
            instance = uuid.uuid5(uuid.NAMESPACE_URL, str(self.instance))
            cluster = base64.urlsafe_b64encode(instance.bytes).rstrip(b"=").decode()
            users = [word for line in more.splitlines() if line.startswith(SCRAM)
                     for word in ("--add-scram", line.removeprefix(SCRAM))]
            capture([*self._java(), "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}",
                     f"--config={self.settings}", *users], cwd=self.home)
        return [*self._java(), "kafka.Kafka", self.settings]

    def _ports(self):
        """Its own ports, checked again; those that the others have, or will have; and the proxy's, which may be bound by now."""
        known = remembered_ports(self.instance)
        names = [what + ending for what in self.cluster for ending in ("", "-controller", "-proxied", "-proxy")]
        choose_ports(self.services, self.instance, [*self.port_names, *(name for name in names if name not in known)])
        return remembered_ports(self.instance)

    def _java(self):
        home = os.environ.get("JAVA_HOME")
        java = Path(home, "bin/java") if home else "java"
        log = ["-Dorg.slf4j.simpleLogger.showDateTime=true",
               "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS"]
        options = os.environ.get("DOORBELL_KAFKA_OPTS", "").split()
        return [java, "-Xms128m", f"-Xmx{self.memory}", *options, *log, "-cp", f"{self.libraries}/*"]

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
        ports = remembered_ports(self.instance)

        def addresses(ending):
            return ",".join(f"127.0.0.1:{ports[what + ending]}" for what in self.cluster)

        found = {f"KAFKA_BROKERS{self.suffix}": addresses(""), self.pid_variable: str(self.pid()),
                 self.pid_variable.replace("PID", "DATA"): str(self.data)}
        if f"{self.what}-proxy" in ports:  # a node that an earlier version of this script started has none
            found |= {f"KAFKA_PROXIED{self.suffix}": addresses("-proxied"), f"KAFKA_PROXIES{self.suffix}": addresses("-proxy")}
        added = [name for name in self.port_names if name not in self.own_ports]
        return found | {f"KAFKA_PORT_{name.removeprefix('kafka-').upper()}": str(ports[name]) for name in added}


class KafkaNode(Kafka):
    """One of three nodes of a cluster, each of which may be killed by itself."""

    cluster = ("kafka3-1", "kafka3-2", "kafka3-3")
    memory = "400m"
    suffix = "_3"

    def stop(self):
        """The last node has no quorum left for a controlled shutdown, and would wait for one."""
        others = [node(self.services, self.name) for node in NODES if node.what != self.what]
        if any(other.pid() is not None for other in others):
            super().stop()
        else:
            self.kill()


def _node(number):
    what = KafkaNode.cluster[number - 1]
    return type(f"KafkaNode{number}", (KafkaNode,), {
        "what": what, "title": f"Kafka {VERSION}, node {number} of 3", "node": number,
        "own_ports": (what, f"{what}-controller", f"{what}-proxied"), "pid_variable": f"KAFKA_PID_3_{number}"})


NODES = [_node(number) for number in (1, 2, 3)]

# A version by itself, in place of the instance's kafka.
OTHERS = [type(f"Kafka{line}", (Kafka,), {
    "what": f"kafka-{line}", "version": version, "title": f"Kafka {version}", "cluster": (f"kafka-{line}",),
    "own_ports": (f"kafka-{line}", f"kafka-{line}-controller", f"kafka-{line}-proxied")}) for line, version in OTHER_VERSIONS.items()]


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
