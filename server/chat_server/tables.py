"""The schema as it should be, for Alembic to compare with and for people to read.

Queries are written by hand; nothing on a request's path imports this module. Instants that are
shown are RFC 3339 text; instants that are only compared are integer seconds since 1970.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Compared byte by byte on both databases: faster, and ids sort by their age.
Name = Text().with_variant(Text(collation="C"), "postgresql")
DELETED = text("deleted_at IS NOT NULL")
PRESENT = text("deleted_at IS NULL")

chat_deployment = Table(
    "chat_deployment",
    metadata,
    Column("one", Integer, autoincrement=False, nullable=False),
    Column("id", Text, nullable=False),
    PrimaryKeyConstraint("one"),
)

projects = Table(
    "projects",
    metadata,
    Column("id", Name, nullable=False),
    Column("name", Text, nullable=False),
    Column("generation", BigInteger, nullable=False, server_default="0"),
    # Counters, because counting a million rows for each page would not stay flat.
    Column("user_count", BigInteger, nullable=False, server_default="0"),
    Column("room_count", BigInteger, nullable=False, server_default="0"),
    Column("open_room_count", BigInteger, nullable=False, server_default="0"),
    Column("created_at", Text, nullable=False),
    PrimaryKeyConstraint("id"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Name, nullable=False),
    Column("project_id", Name, ForeignKey("projects.id"), nullable=False),
    Column("name", Text, nullable=False),
    # SHA-256 of the whole key, in hex. The key itself is nowhere.
    Column("digest", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("revoked_at", Text),
    PrimaryKeyConstraint("id"),
    Index(None, "project_id"),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", Name, nullable=False),
    Column("algorithm", Text, nullable=False),
    Column("private_key", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # When a newer key took over; NULL for the one key that signs.
    Column("retired_at", BigInteger),
    PrimaryKeyConstraint("kid"),
)

users = Table(
    "users",
    metadata,
    Column("project_id", Name, ForeignKey("projects.id"), nullable=False),
    Column("id", Name, nullable=False),
    Column("external_user_id", Name, nullable=False),
    Column("username", Name, nullable=False),
    Column("display_name", Text),
    Column("email", Text),
    Column("avatar_url", Text),
    Column("status", Text, nullable=False, server_default="active"),
    Column("metadata", Text, nullable=False, server_default="{}"),
    Column("generation", BigInteger, nullable=False, server_default="0"),
    Column("created_at", Text, nullable=False),
    Column("updated_at", Text, nullable=False),
    # A deleted user stays as a tombstone, so that messages keep a name.
    Column("deleted_at", Text),
    # Of before usernames were unique without regard to case: the name in lower case, a space and the id, in whoever
    # is not the eldest of that name. Gone with the next change of the name.
    Column("username_twin", Name),
    # What `q` looks at, as `fold` leaves it; NULL where that is the text itself. A username is ASCII.
    Column("external_user_id_folded", Name),
    Column("display_name_folded", Text),
    PrimaryKeyConstraint("project_id", "id"),
    CheckConstraint("status IN ('active', 'suspended')", name="status"),
    Index(
        "uq_users_username",
        "project_id",
        text("coalesce(username_twin, lower(username))"),
        unique=True,
        sqlite_where=PRESENT,
        postgresql_where=PRESENT,
    ),
    Index(
        "uq_users_external",
        "project_id",
        "external_user_id",
        unique=True,
        sqlite_where=PRESENT,
        postgresql_where=PRESENT,
    ),
    Index(
        "ix_users_suspended",
        "project_id",
        "id",
        sqlite_where=text("status = 'suspended'"),
        postgresql_where=text("status = 'suspended'"),
    ),
)

revoked_sessions = Table(
    "revoked_sessions",
    metadata,
    Column("project_id", Name, nullable=False),
    Column("user_id", Name, nullable=False),
    Column("session_id", Name, nullable=False),
    # The last token of the session has certainly expired then.
    Column("expires_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("project_id", "user_id", "session_id"),
    Index(None, "expires_at"),
    sqlite_with_rowid=False,
)

rooms = Table(
    "rooms",
    metadata,
    Column("project_id", Name, ForeignKey("projects.id"), nullable=False),
    Column("id", Name, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("private", Boolean, nullable=False),
    Column("created_by", Name, nullable=False),
    Column("member_count", BigInteger, nullable=False, server_default="0"),
    Column("last_seq", BigInteger, nullable=False, server_default="0"),
    Column("last_message_at", Text),
    Column("metadata", Text, nullable=False, server_default="{}"),
    Column("created_at", Text, nullable=False),
    Column("updated_at", Text, nullable=False),
    # A deleted room waits here until its messages have been removed, a few at a time.
    Column("deleted_at", Text),
    # As in `users`.
    Column("name_folded", Text),
    Column("description_folded", Text),
    PrimaryKeyConstraint("project_id", "id"),
    Index(None, "project_id", "private", "id"),
    Index("ix_rooms_deleted", "project_id", "id", sqlite_where=DELETED, postgresql_where=DELETED),
)

members = Table(
    "members",
    metadata,
    Column("project_id", Name, nullable=False),
    Column("room_id", Name, nullable=False),
    Column("user_id", Name, nullable=False),
    Column("role", Text, nullable=False),
    Column("joined_at", Text, nullable=False),
    Column("last_read_seq", BigInteger, nullable=False, server_default="0"),
    PrimaryKeyConstraint("project_id", "room_id", "user_id"),
    ForeignKeyConstraint(["project_id", "room_id"], ["rooms.project_id", "rooms.id"]),
    ForeignKeyConstraint(["project_id", "user_id"], ["users.project_id", "users.id"]),
    CheckConstraint("role IN ('owner', 'member')", name="role"),
    Index(None, "project_id", "user_id", "room_id"),
    sqlite_with_rowid=False,
)

messages = Table(
    "messages",
    metadata,
    Column("project_id", Name, nullable=False),
    Column("room_id", Name, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("id", Name, nullable=False),
    Column("user_id", Name, nullable=False),
    # The author's how-manieth in this room: counts own messages of a stretch by subtracting.
    Column("author_seq", BigInteger, nullable=False),
    Column("content", Text, nullable=False),
    Column("client_msg_id", Name),
    Column("metadata", Text, nullable=False, server_default="{}"),
    Column("created_at", Text, nullable=False),
    Column("edited_at", Text),
    Column("deleted_at", Text),
    PrimaryKeyConstraint("project_id", "room_id", "seq"),
    ForeignKeyConstraint(["project_id", "room_id"], ["rooms.project_id", "rooms.id"]),
    Index("uq_messages_id", "project_id", "id", unique=True),
    Index("uq_messages_author", "project_id", "room_id", "user_id", "seq", unique=True),
    Index(
        "uq_messages_client",
        "project_id",
        "room_id",
        "user_id",
        "client_msg_id",
        unique=True,
        sqlite_where=text("client_msg_id IS NOT NULL"),
        postgresql_where=text("client_msg_id IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

# Which messages were deleted: so few, as a rule, that those of a stretch can be counted. (An index
# of `messages` alone would do, but SQLite prefers to walk the table.)
deletions = Table(
    "deletions",
    metadata,
    Column("project_id", Name, nullable=False),
    Column("room_id", Name, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("user_id", Name, nullable=False),
    PrimaryKeyConstraint("project_id", "room_id", "seq"),
    sqlite_with_rowid=False,
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("project_id", Name, nullable=False),
    Column("scope", Name, nullable=False),
    Column("key", Name, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("project_id", "scope", "key"),
    Index(None, "expires_at"),
    sqlite_with_rowid=False,
)
