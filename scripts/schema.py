"""Writes what the migrations make of an empty SQLite database; `--check` fails if a file is not that.

A first start makes its databases from these files, without loading Alembic.
"""

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing

from app.state import migrate as broker
from chat_server import migrate as server


def schema(migrate: Callable[[sqlite3.Connection], None]) -> str:
    """Every statement that makes a database as *migrate* leaves it, each ended by `;` and a line end."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        statements = [
            statement
            for statement in connection.iterdump()
            if statement not in {"BEGIN TRANSACTION;", "COMMIT;"}
        ]
    return "\n".join(statements) + "\n"


FILES = {broker.NEW: broker.run_migrations, server.NEW: server.run_migrations}

if __name__ == "__main__":
    for path, migrate in FILES.items():
        text = schema(migrate)
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"{path} is not what the migrations make: run python scripts/schema.py")
