"""The Python of the page docs/start.md, run as it stands there."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from support import REPOSITORY

PAGE = (REPOSITORY / "docs" / "start.md").read_text(encoding="utf-8")


@pytest.fixture
def page(tmp_path: Path) -> SimpleNamespace:
    samples = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    program = tmp_path / "samples.py"
    program.write_text("\n".join(samples), encoding="utf-8")
    return SimpleNamespace(**runpy.run_path(str(program)))


def test_an_order_and_its_event_are_written_together(page: SimpleNamespace, database: psycopg.Connection) -> None:
    order = page.place_order(database, "ada", 1250)
    events = database.execute("SELECT type, key, payload::jsonb ->> 'customer' FROM outbox").fetchall()
    assert events == [("OrderPlaced", str(order), "ada")]

    with pytest.raises(psycopg.IntegrityError):
        page.place_order(database, "nobody", 1)
    assert database.execute("SELECT count(*) FROM outbox").fetchone() == (1,)


def test_a_record_that_comes_twice_has_its_effect_once(page: SimpleNamespace, database: psycopg.Connection) -> None:
    own = b"0197b4a2-1111-7000-8000-000000000001"
    record = SimpleNamespace(headers=lambda: [("id", own), ("seq", b"1"), ("id", b"one of the row's own")])
    effects: list = []

    def effect(*_) -> None:
        effects.append(1)

    assert page.take_in(database, record, effect)
    assert not page.take_in(database, record, effect)
    assert effects == [1]
    assert database.execute("SELECT event_id::text FROM inbox").fetchall() == [(own.decode(),)]


def test_an_effect_that_fails_leaves_nothing_noted(page: SimpleNamespace, database: psycopg.Connection) -> None:
    record = SimpleNamespace(headers=lambda: [("id", b"0197b4a2-1111-7000-8000-000000000002")])

    def effect(*_) -> None:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        page.take_in(database, record, effect)
    assert database.execute("SELECT count(*) FROM inbox").fetchone() == (0,)
