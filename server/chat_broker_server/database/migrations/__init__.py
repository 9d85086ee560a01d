"""The migrations of the Chat API's database: numbered SQL files, and `steps` for what SQL alone cannot do.

To add one: write `NNNN_what_it_does.sql`, NNNN being the next number (`.sqlite.sql` and `.postgres.sql` where the two differ), then
run `python scripts/schema.py`, which writes `generated.*.sql`. A released file is never changed.
"""

from pathlib import Path

from chat_broker_kit.database.migrations import Migrations
from chat_broker_server.database.migrations.folded_names import fold_names

MIGRATIONS = Migrations(
    program="chat-server",
    table="alembic_version",
    folder=Path(__file__).parent,
    lock=0x63686174,
    steps={"0002": fold_names},
)
