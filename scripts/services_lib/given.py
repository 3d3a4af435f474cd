"""Services that the caller brings: DATABASE_URL and KAFKA_BROKERS set in the environment are used as they are."""

import os
import re
from urllib.parse import urlsplit

from . import kafka, postgres
from .common import Fault, say
from .kafka import KafkaNode, broker_answers
from .postgres import postgres_answers

VARIABLES = {"postgres": "DATABASE_URL", "standby": "DATABASE_URL_STANDBY", "postgres15": "DATABASE_URL_15",
             "pgbouncer": "DATABASE_URL_POOLED", "kafka": "KAFKA_BROKERS",
             **dict.fromkeys(KafkaNode.cluster, "KAFKA_BROKERS_3"),
             **{it.what: "DATABASE_URL" for it in postgres.OTHERS}, **{it.what: "KAFKA_BROKERS" for it in kafka.OTHERS}}


def given(service):
    """The caller's own service in place of `service`, as KEY=VALUE; empty where there is none."""
    variable = VARIABLES[service.what]
    value = os.environ.get(variable)
    if service.name != "main" or not value:
        return {}
    if service.pid() is not None and service.variables()[variable] == value:
        return {}  # inside `scripts/services run`: it is ours
    return {variable: value}


def check(service, value):
    """Says that the caller's service is used, and fails unless it answers. The URL is not shown: it may hold a password."""
    variable = VARIABLES[service.what]
    brokers = variable.startswith("KAFKA")
    addresses = _addresses(value if brokers else urlsplit(value).netloc.rpartition("@")[2], 9092 if brokers else 5432)
    shown = ", ".join(f"{host}:{port}" for host, port in addresses)
    if not addresses:
        say(f"using {variable} of the environment as it is (it names no host to ask)")
    elif any((broker_answers if brokers else postgres_answers)(host, port) for host, port in addresses):
        say(f"using {variable} of the environment ({shown})")
    else:
        raise Fault(f"{variable} is set in the environment, but nothing answers at {shown}; "
                    f"unset it to let this script start a service of its own")


def _addresses(hosts, default_port):
    """`a:1,b,[::1]:2` as pairs of host and port."""
    found = []
    for item in filter(None, hosts.split(",")):
        match = re.fullmatch(r"(?:\w+://)?(?:\[(?P<six>[^]]+)\]|(?P<name>[^:]*))(?::(?P<port>\d+))?", item.strip())
        if match is None:
            raise Fault(f"`{item}` is not HOST or HOST:PORT")
        host = match["six"] or match["name"]
        if host and not host.startswith("%2F"):  # that one is a Unix socket
            found.append((host, int(match["port"] or default_port)))
    return found
