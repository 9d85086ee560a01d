"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "deletions",
        sa.Column("project_id", NAME, nullable=False),
        sa.Column("room_id", NAME, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("user_id", NAME, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "room_id", "seq", name=op.f("pk_deletions")),
        sqlite_with_rowid=False,
    )

    op.create_table(
        "idempotency",
        sa.Column("project_id", NAME, nullable=False),
        sa.Column("scope", NAME, nullable=False),
        sa.Column("key", NAME, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "scope", "key", name=op.f("pk_idempotency")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_idempotency_expires_at"), "idempotency", ["expires_at"])

    op.create_table(
        "projects",
        sa.Column("id", NAME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("user_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("room_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("open_room_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
    )
    op.create_table(
        "revoked_sessions",
        sa.Column("project_id", NAME, nullable=False),
        sa.Column("user_id", NAME, nullable=False),
        sa.Column("session_id", NAME, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "project_id", "user_id", "session_id", name=op.f("pk_revoked_sessions")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_revoked_sessions_expires_at"), "revoked_sessions", ["expires_at"])

    op.create_table(
        "signing_keys",
        sa.Column("kid", NAME, nullable=False),
        sa.Column("algorithm", sa.Text(), nullable=False),
        sa.Column("private_key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("retired_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("kid", name=op.f("pk_signing_keys")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", NAME, nullable=False),
        sa.Column("project_id", NAME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("revoked_at", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_api_keys_projects")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
    )
    op.create_index(op.f("ix_api_keys_project_id"), "api_keys", ["project_id"])

    op.create_table(
        "rooms",
        sa.Column("project_id", NAME, nullable=False),
        sa.Column("id", NAME, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.Column("member_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_message_at", sa.Text(), nullable=True),
        sa.Column("metadata", sa.Text(), server_default="{}", nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Text(), nullable=False),
        sa.Column("deleted_at", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_rooms_projects")),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("pk_rooms")),
    )
    op.create_index(
        "ix_rooms_deleted",
        "rooms",
        ["project_id", "id"],
        sqlite_where=sa.text("deleted_at IS NOT NULL"),
        postgresql_where=sa.text("deleted_at IS NOT NULL"),
    )
    op.create_index(
        op.f("ix_rooms_project_id_private_id"), "rooms", ["project_id", "private", "id"]
    )

    op.create_table(
        "users",
        sa.Column("project_id", NAME, nullable=False),
        sa.Column("id", NAME, nullable=False),
        sa.Column("external_user_id", NAME, nullable=False),
        sa.Column("username", NAME, nullable=False),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("avatar_url", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="active", nullable=False),
        sa.Column("metadata", sa.Text(), server_default="{}", nullable=False),
        sa.Column("generation", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Text(), nullable=False),
        sa.Column("deleted_at", sa.Text(), nullable=True),
        sa.CheckConstraint("status IN ('active', 'suspended')", name=op.f("ck_users_status")),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_users_projects")),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("pk_users")),
    )
    op.create_index(
        "ix_users_suspended",
        "users",
        ["project_id", "id"],
        sqlite_where=sa.text("status = 'suspended'"),
        postgresql_where=sa.text("status = 'suspended'"),
    )
    op.create_index(
        "uq_users_external",
        "users",
        ["project_id", "external_user_id"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_index(
        "uq_users_username",
        "users",
        ["project_id", "username"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )

    op.create_table(
        "members",
        sa.Column("project_id", NAME, nullable=False),
        sa.Column("room_id", NAME, nullable=False),
        sa.Column("user_id", NAME, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("joined_at", sa.Text(), nullable=False),
        sa.Column("last_read_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("role IN ('owner', 'member')", name=op.f("ck_members_role")),
        sa.ForeignKeyConstraint(
            ["project_id", "room_id"],
            ["rooms.project_id", "rooms.id"],
            name=op.f("fk_members_rooms"),
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "user_id"],
            ["users.project_id", "users.id"],
            name=op.f("fk_members_users"),
        ),
        sa.PrimaryKeyConstraint("project_id", "room_id", "user_id", name=op.f("pk_members")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_members_project_id_user_id_room_id"),
        "members",
        ["project_id", "user_id", "room_id"],
    )

    op.create_table(
        "messages",
        sa.Column("project_id", NAME, nullable=False),
        sa.Column("room_id", NAME, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("id", NAME, nullable=False),
        sa.Column("user_id", NAME, nullable=False),
        sa.Column("author_seq", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("client_msg_id", NAME, nullable=True),
        sa.Column("metadata", sa.Text(), server_default="{}", nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("edited_at", sa.Text(), nullable=True),
        sa.Column("deleted_at", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["project_id", "room_id"],
            ["rooms.project_id", "rooms.id"],
            name=op.f("fk_messages_rooms"),
        ),
        sa.PrimaryKeyConstraint("project_id", "room_id", "seq", name=op.f("pk_messages")),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "uq_messages_author", "messages", ["project_id", "room_id", "user_id", "seq"], unique=True
    )
    op.create_index(
        "uq_messages_client",
        "messages",
        ["project_id", "room_id", "user_id", "client_msg_id"],
        unique=True,
        sqlite_where=sa.text("client_msg_id IS NOT NULL"),
        postgresql_where=sa.text("client_msg_id IS NOT NULL"),
    )
    op.create_index("uq_messages_id", "messages", ["project_id", "id"], unique=True)
