"""The migrations of the broker, in order.

To add one: write `NNNN_what_it_does.sql`, NNNN being the next number (`.sqlite.sql` and `.postgres.sql` where the two differ), then
run `python scripts/schema.py`, which writes `generated.*.sql`. A released file is never changed.
"""

from pathlib import Path

from chat_broker_kit.database.migrations import Migrations

MIGRATIONS = Migrations(
    program="chat-broker",
    table="broker_schema",
    folder=Path(__file__).parent,
    lock=0x63686174_62726F6B,
)
