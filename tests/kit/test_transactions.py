"""Queries as transactions yield them, and what a program's callers hear of the database's errors."""

from functools import partial
from pathlib import Path

import pytest

from chat_broker_kit.database.migrations import Migrations
from chat_broker_kit.database.open import open_database
from chat_broker_kit.database.profile import Profile
from chat_broker_kit.database.transactions import Query, Steps, all_rows, first_row, named


class Outage(Exception):  # noqa: N818 - what is the case
    """What callers hear."""


def profile(folder: Path) -> Profile:
    folder.mkdir()
    (folder / "0001_words.sql").write_text("CREATE TABLE words (word TEXT PRIMARY KEY);\n")
    new = "CREATE TABLE words (word TEXT PRIMARY KEY);\nCREATE TABLE versions (version_num TEXT);\n"
    (folder / "generated.sqlite.sql").write_text(f"{new}INSERT INTO versions VALUES ('0001');\n")
    return Profile(
        store="words",
        migrations=Migrations(program="words", table="versions", folder=folder, lock=1),
        outage=Outage,
        unavailable=Outage,
        not_writable=Outage,
        broken=lambda error: Outage(type(error).__name__),
    )


def test_names_become_numbers_in_the_order_they_are_met() -> None:
    """One that comes twice is one parameter; a cast of Postgres is no name."""
    query = named("SELECT :b::text, :a WHERE x = :b", a=1, b="two")
    assert query.sql == "SELECT $1::text, $2 WHERE x = $1"
    assert query.parameters == ("two", 1)


def test_parameters_are_in_no_repr() -> None:
    """They are people's messages and the digests of secrets."""
    assert "canary" not in repr(Query("SELECT $1", "canary"))


async def test_an_error_that_will_not_pass_is_what_the_program_says(tmp_path: Path) -> None:
    """In a read, in a long one, and in a write beside one that succeeds; without the driver's error behind it."""
    database = await open_database(
        f"sqlite:///{tmp_path / 'words.db'}", profile(tmp_path / "migrations"), pool=1
    )
    broken = partial(all_rows, Query("SELECT * FROM nothing"))
    for call in (database.read(broken), database.read(broken, slow=True), database.write(broken)):
        with pytest.raises(Outage, match="OperationalError") as caught:
            await call
        assert caught.value.__cause__ is None

    def insert() -> Steps[str]:
        yield Query("INSERT INTO words VALUES ($1)", "kept")
        return "done"

    assert await database.write(insert) == "done"
    row = await database.read(partial(first_row, Query("SELECT word FROM words")))
    assert row == ("kept",)
    await database.close()
    with pytest.raises(Outage, match="closed"):
        await database.read(broken)
