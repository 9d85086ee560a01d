"""Fixed statistics of large tables for SQLite's query planner (its table `sqlite_stat1`).

Without statistics the planner takes all indexes of one width for equal, and reads all members of a project to find
one user's rooms. With ANALYZE the plans would depend on the present data, and change as the database grows.
Fixed statistics give the plans for a large database at all times, in tests too.
"""

# SQLite's format: number of rows, then rows per value of the first column, of the first two columns, and so on.
STATISTICS: dict[tuple[str, str], str] = {
    ("changes", "changes"): "1000000 1000000 100 1",
    ("changes", "uq_changes_object"): "1000000 1000000 100 50 1",
    ("changes", "ix_changes_changed_at"): "1000000 10",
    ("members", "members"): "1000000 1000000 100 1",
    ("members", "ix_members_project_id_user_id_room_id"): "1000000 1000000 20 1",
    ("mentions", "mentions"): "1000000 1000000 1000 20 1",
    ("mentions", "ix_mentions_message"): "1000000 1000000 1000 2",
    ("messages", "messages"): "10000000 10000000 5000 1",
    ("messages", "uq_messages_author"): "10000000 10000000 5000 50 1",
    ("messages", "uq_messages_id"): "10000000 10000000 1",
    ("messages", "ix_messages_replies"): "1000000 1000000 500 2 1",
    ("rooms", "sqlite_autoindex_rooms_1"): "100000 100000 1",
    ("rooms", "ix_rooms_project_id_private_id"): "100000 100000 50000 1",
    ("users", "sqlite_autoindex_users_1"): "1000000 1000000 1",
    ("users", "uq_users_username"): "1000000 1000000 1",
    ("users", "uq_users_external"): "1000000 1000000 1",
}
