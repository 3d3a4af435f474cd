"""Names, places and words that the parts of the demo share."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from services_lib.common import REPO, services_folder

DATABASE = "doorbell_demo"
TOPIC = "doorbell_demo"
PRODUCER = REPO / "examples" / "python" / "producer.py"


class DemoFault(Exception):
    """Why the demo cannot go on; its text is all that is shown."""


def folder() -> Path:
    """Where the demo keeps its log and the process id of its relay."""
    place = services_folder() / "demo"
    place.mkdir(exist_ok=True)
    return place


def demo_url() -> str:
    """The server of DATABASE_URL, with the demo's own database."""
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{DATABASE}").geturl()


def environment() -> dict[str, str]:
    """Ours, for programs that work on the demo's database: a configuration file of the caller has no say in it."""
    ours = {name: value for name, value in os.environ.items() if name != "DOORBELL_CONFIG"}
    return {**ours, "DATABASE_URL": demo_url()}


def say(text: str = "") -> None:
    print(text, flush=True)


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Prints what was done and how long it took."""
    began = time.monotonic()
    yield
    say(f"{time.monotonic() - began:7.2f} s  {text}")
