"""Bans and revocation marks; admin keys; the audit chain, its head, and entries still open."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

IN_FORCE = sa.text("lifted_at IS NULL")
TO_SETTLE = sa.text("suspended OR pending IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "bans",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("external_user_id", sa.String(255), nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("by", sa.String(64), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("until", sa.String(32)),
        sa.Column("lifted_at", sa.String(32)),
        sa.Column("lifted_by", sa.String(64)),
        sa.Column("suspended", sa.Boolean, nullable=False),
        sa.Column("pending", sa.String(16)),
    )
    op.create_index("bans_of_user", "bans", ["external_user_id", "created_at"])
    op.create_index(
        "bans_in_force",
        "bans",
        ["external_user_id"],
        unique=True,
        sqlite_where=IN_FORCE,
        postgresql_where=IN_FORCE,
    )
    op.create_index(
        "bans_to_settle",
        "bans",
        ["until"],
        sqlite_where=TO_SETTLE,
        postgresql_where=TO_SETTLE,
    )
    op.create_table(
        "revocation_marks",
        sa.Column("whose", sa.String(257), primary_key=True),
        sa.Column("mark", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "admin_keys",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("scopes", sa.String(500), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("created_by", sa.String(64), nullable=False),
        sa.Column("expires_at", sa.String(32)),
        sa.Column("revoked_at", sa.String(32)),
    )
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.Text),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("ip", sa.String(64), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("also", sa.Text),
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    for column in ("actor", "action", "subject", "also"):
        op.create_index(f"audit_{column}", "audit", [column, "seq"])
    head = op.create_table(
        "audit_head",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.bulk_insert(head, [{"one": 1, "seq": 0, "hash": "0" * 64}])
    op.create_table(
        "audit_open",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("fold_key", sa.String(128), unique=True),
        sa.Column("since", sa.String(32), nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_index("ix_audit_open_since", "audit_open", ["since"])
