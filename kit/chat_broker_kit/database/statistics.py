"""What SQLite's planner is told about the tables: fixed statistics, so that plans do not change as a database grows."""

import sqlite3
from collections.abc import Mapping


def tell_planner(connection: sqlite3.Connection, statistics: Mapping[tuple[str, str], str]) -> None:
    """Make *statistics* those of the database behind *connection*, if they are not. Later connections plan by them."""
    connection.execute(
        "ANALYZE sqlite_master"
    )  # makes the table of statistics, and measures nothing
    wanted = sorted((*key, text) for key, text in statistics.items())
    present = connection.execute("SELECT tbl, idx, stat FROM sqlite_stat1 ORDER BY tbl, idx")
    if present.fetchall() == wanted:
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM sqlite_stat1")
    connection.executemany("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)", wanted)
    connection.execute("COMMIT")
