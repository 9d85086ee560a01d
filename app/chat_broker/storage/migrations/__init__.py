"""The migrations of the broker, in order."""

from pathlib import Path

from chat_broker_kit.database.migrations import Migrations

MIGRATIONS = Migrations(
    program="chat-broker",
    table="broker_schema",
    folder=Path(__file__).parent,
    lock=0x63686174_62726F6B,
)
