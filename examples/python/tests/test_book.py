"""What the page docs/start.md includes: it is there, and a consumer's step does what the page says of it."""

import re
import sys
from types import SimpleNamespace

import psycopg
import pytest
from support import PROGRAMS, REPOSITORY

sys.path.insert(0, str(PROGRAMS))
import consumer

PAGE = REPOSITORY / "docs" / "start.md"


def event(*ids: bytes, value: bytes = b'{"customer": "ada", "amount_cents": 1250}') -> consumer.Event:
    headers = [("id", one) for one in ids]
    record = SimpleNamespace(headers=lambda: [*headers[:1], ("type", b"OrderPlaced"), *headers[1:]], value=lambda: value)
    return consumer.read_event(record)


def test_each_file_that_the_page_includes_has_the_part_that_it_names() -> None:
    included = re.findall(r"\{\{#include ([^:}]+):?(\w*)\}\}", PAGE.read_text(encoding="utf-8"))
    assert len(included) == 8
    for path, anchor in included:
        text = (PAGE.parent / path).read_text(encoding="utf-8")
        assert not anchor or f"# ANCHOR: {anchor}\n" in text, path


def test_a_record_that_comes_twice_has_its_effect_once(database: psycopg.Connection) -> None:
    own = b"0197b4a2-1111-7000-8000-000000000001"
    taken = event(own, b"one of the row's own")
    with database.transaction():
        assert consumer.take_in(database, taken) == "applied"
    with database.transaction():
        assert consumer.take_in(database, taken) == "seen before"
    assert database.execute("SELECT event_id::text FROM doorbell.inbox").fetchall() == [(own.decode(),)]


def test_an_effect_that_fails_leaves_nothing_claimed(database: psycopg.Connection) -> None:
    with pytest.raises(consumer.Unreadable), database.transaction():
        consumer.take_in(database, event(b"0197b4a2-1111-7000-8000-000000000002", value=b"{}"))
    assert database.execute("SELECT count(*) FROM doorbell.inbox").fetchone() == (0,)
