"""Fixed statistics for SQLite's planner, so that query plans do not change as a database grows."""

import sqlite3
from collections.abc import Mapping


def tell_planner(connection: sqlite3.Connection, statistics: Mapping[tuple[str, str], str]) -> None:
    """Store *statistics* in the database, for connections opened later. Does nothing if they are stored already."""
    connection.execute(
        "ANALYZE sqlite_master"
    )  # creates the table of statistics, without measuring
    rows = sorted((*key, text) for key, text in statistics.items())
    present = connection.execute("SELECT tbl, idx, stat FROM sqlite_stat1 ORDER BY tbl, idx")
    if present.fetchall() == rows:
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM sqlite_stat1")
    connection.executemany("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)", rows)
    connection.execute("COMMIT")
