"""What SQLite's planner is told about the tables: how they look when they are large.

Without statistics it guesses that an index narrows as well as any other with as many columns, and then
reads all members of a project to find one person's rooms. Gathered ones (ANALYZE) would describe
the database of the day, most of all an empty one, and plans would change as it grows. These are
fixed: the plans that are right for a large database are the plans, and tests see the same ones.
"""

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
