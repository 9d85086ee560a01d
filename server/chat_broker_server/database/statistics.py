"""What SQLite's planner is told about the tables: how they look when they are large.

Without statistics it guesses that an index narrows as well as any other with as many columns, and then
reads all members of a project to find one person's rooms. Gathered ones (ANALYZE) would describe
the database of the day, most of all an empty one, and plans would change as it grows. These are
fixed: the plans that are right for a large database are the plans, and tests see the same ones.
"""

import sqlite3

# Rows in all, then rows with the same first column, the same first two, and so on: SQLite's own form.
STATISTICS: dict[tuple[str, str], str] = {
    ("members", "members"): "1000000 1000000 100 1",
    ("members", "ix_members_project_id_user_id_room_id"): "1000000 1000000 20 1",
    ("messages", "messages"): "10000000 10000000 5000 1",
    ("messages", "uq_messages_author"): "10000000 10000000 5000 50 1",
    ("messages", "uq_messages_id"): "10000000 10000000 1",
    ("rooms", "sqlite_autoindex_rooms_1"): "100000 100000 1",
    ("rooms", "ix_rooms_project_id_private_id"): "100000 100000 50000 1",
    ("users", "sqlite_autoindex_users_1"): "1000000 1000000 1",
    ("users", "uq_users_username"): "1000000 1000000 1",
    ("users", "uq_users_external"): "1000000 1000000 1",
}


def tell_planner(connection: sqlite3.Connection) -> None:
    """Make these the statistics of the database behind *connection*, if they are not. Later connections plan by them."""
    connection.execute(
        "ANALYZE sqlite_master"
    )  # makes the table of statistics, and measures nothing
    wanted = sorted((*key, text) for key, text in STATISTICS.items())
    present = connection.execute("SELECT tbl, idx, stat FROM sqlite_stat1 ORDER BY tbl, idx")
    if present.fetchall() == wanted:
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM sqlite_stat1")
    connection.executemany("INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)", wanted)
    connection.execute("COMMIT")
