"""Databases: checks before the start, migrations, connections, and transactions for SQLite and Postgres."""
