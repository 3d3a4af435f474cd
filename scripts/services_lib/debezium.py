"""Debezium and the Kafka Connect that it runs in, both fetched by Maven: what the benchmark is compared with."""

import shutil
from pathlib import Path

from .common import Fault, capture, installed, say
from .kafka import VERSION as KAFKA_VERSION

VERSION = "3.6.3.Final"
# Connect loads a plugin and its libraries apart from its own, so the two are copied apart.
POMS = {"connect": Path(__file__).with_name("connect-pom.xml"),
        "plugins/debezium-postgres": Path(__file__).with_name("debezium-pom.xml")}


class Debezium:
    """Programs only: the benchmark starts and ends it."""

    what = "debezium"

    def __init__(self, folder):
        self.services = folder
        self.program = f"debezium-{VERSION}-connect-{KAFKA_VERSION}"

    def fetch(self):
        with installed(self.services, self.program) as target:
            if target is None:
                return
            say(f"fetching Debezium {VERSION} and Kafka Connect {KAFKA_VERSION} (Maven)")
            if shutil.which("mvn") is None:
                raise Fault("Maven is missing; `scripts/need` names everything that is")
            for libraries, pom in POMS.items():
                capture(["mvn", "-q", "-B", "-f", pom, f"-Dkafka.version={KAFKA_VERSION}",
                         f"-Ddebezium.version={VERSION}", "dependency:copy-dependencies",
                         f"-DoutputDirectory={target / libraries}"])

    def variables(self):
        return {"DEBEZIUM_HOME": str(self.services / "programs" / self.program), "DEBEZIUM_VERSION": VERSION}
