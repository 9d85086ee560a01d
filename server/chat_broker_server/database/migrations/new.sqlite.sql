CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));
INSERT INTO "alembic_version" VALUES('0007');
CREATE TABLE api_keys (
    id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    name TEXT NOT NULL,
    -- SHA-256 of the whole key, in hex. The key itself is nowhere.
    digest TEXT NOT NULL,
    created_at TEXT NOT NULL,
    revoked_at TEXT,
    CONSTRAINT pk_api_keys PRIMARY KEY (id),
    CONSTRAINT fk_api_keys_projects FOREIGN KEY(project_id) REFERENCES projects (id)
);
CREATE TABLE changes (
    project_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    rev BIGINT NOT NULL,
    kind TEXT NOT NULL,
    -- The id of a message or a user; '' for the room itself.
    object TEXT NOT NULL,
    -- Of a message.
    seq BIGINT,
    changed_at BIGINT NOT NULL,
    CONSTRAINT pk_changes PRIMARY KEY (project_id, room_id, rev)
) WITHOUT ROWID;
CREATE TABLE chat_deployment (
    one INTEGER NOT NULL,
    id TEXT NOT NULL, epoch TEXT,
    CONSTRAINT pk_chat_deployment PRIMARY KEY (one)
);
CREATE TABLE deletions (
    project_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    user_id TEXT NOT NULL,
    CONSTRAINT pk_deletions PRIMARY KEY (project_id, room_id, seq)
) WITHOUT ROWID;
CREATE TABLE idempotency (
    project_id TEXT NOT NULL,
    scope TEXT NOT NULL,
    "key" TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    answer TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    CONSTRAINT pk_idempotency PRIMARY KEY (project_id, scope, "key")
) WITHOUT ROWID;
CREATE TABLE members (
    project_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    role TEXT NOT NULL,
    joined_at TEXT NOT NULL,
    last_read_seq BIGINT DEFAULT '0' NOT NULL, rev BIGINT, joined_rev BIGINT, delivered_seq BIGINT, from_seq BIGINT, notify TEXT, muted_until TEXT, archived TEXT, archived_seq BIGINT, pinned_at TEXT, marked_unread BOOLEAN, version BIGINT,
    CONSTRAINT pk_members PRIMARY KEY (project_id, room_id, user_id),
    CONSTRAINT ck_members_role CHECK (role IN ('owner', 'member')),
    CONSTRAINT fk_members_rooms FOREIGN KEY(project_id, room_id) REFERENCES rooms (project_id, id),
    CONSTRAINT fk_members_users FOREIGN KEY(project_id, user_id) REFERENCES users (project_id, id)
) WITHOUT ROWID;
CREATE TABLE messages (
    project_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    -- The number of the author's messages in this room up to this one: those of a stretch are counted by subtracting.
    author_seq BIGINT NOT NULL,
    content TEXT NOT NULL,
    client_msg_id TEXT,
    metadata TEXT DEFAULT '{}' NOT NULL,
    created_at TEXT NOT NULL,
    edited_at TEXT,
    deleted_at TEXT, rev BIGINT,
    CONSTRAINT pk_messages PRIMARY KEY (project_id, room_id, seq),
    CONSTRAINT fk_messages_rooms FOREIGN KEY(project_id, room_id) REFERENCES rooms (project_id, id)
) WITHOUT ROWID;
CREATE TABLE projects (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    generation BIGINT DEFAULT '0' NOT NULL,
    -- Counters, because counting a million rows for each page would not stay flat.
    user_count BIGINT DEFAULT '0' NOT NULL,
    room_count BIGINT DEFAULT '0' NOT NULL,
    open_room_count BIGINT DEFAULT '0' NOT NULL,
    created_at TEXT NOT NULL,
    CONSTRAINT pk_projects PRIMARY KEY (id)
);
CREATE TABLE revoked_sessions (
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    -- The last token of the session has certainly expired then.
    expires_at BIGINT NOT NULL,
    CONSTRAINT pk_revoked_sessions PRIMARY KEY (project_id, user_id, session_id)
) WITHOUT ROWID;
CREATE TABLE rooms (
    project_id TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    private BOOLEAN NOT NULL,
    created_by TEXT NOT NULL,
    member_count BIGINT DEFAULT '0' NOT NULL,
    last_seq BIGINT DEFAULT '0' NOT NULL,
    last_message_at TEXT,
    metadata TEXT DEFAULT '{}' NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    -- A deleted room waits here until its messages have been removed, a few at a time.
    deleted_at TEXT, name_folded TEXT, description_folded TEXT, rev BIGINT, forgotten_rev BIGINT, light BOOLEAN,
    CONSTRAINT pk_rooms PRIMARY KEY (project_id, id),
    CONSTRAINT fk_rooms_projects FOREIGN KEY(project_id) REFERENCES projects (id)
);
CREATE TABLE signing_keys (
    kid TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    private_key TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- When a newer key took over; NULL for the one key that signs.
    retired_at BIGINT,
    CONSTRAINT pk_signing_keys PRIMARY KEY (kid)
);
CREATE TABLE users (
    project_id TEXT NOT NULL,
    id TEXT NOT NULL,
    external_user_id TEXT NOT NULL,
    username TEXT NOT NULL,
    display_name TEXT,
    email TEXT,
    avatar_url TEXT,
    status TEXT DEFAULT 'active' NOT NULL,
    metadata TEXT DEFAULT '{}' NOT NULL,
    generation BIGINT DEFAULT '0' NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    -- A deleted user stays as a tombstone, so that messages keep a name.
    deleted_at TEXT, external_user_id_folded TEXT, display_name_folded TEXT, username_twin TEXT,
    CONSTRAINT pk_users PRIMARY KEY (project_id, id),
    CONSTRAINT ck_users_status CHECK (status IN ('active', 'suspended')),
    CONSTRAINT fk_users_projects FOREIGN KEY(project_id) REFERENCES projects (id)
);
CREATE INDEX ix_idempotency_expires_at ON idempotency (expires_at);
CREATE INDEX ix_revoked_sessions_expires_at ON revoked_sessions (expires_at);
CREATE INDEX ix_api_keys_project_id ON api_keys (project_id);
CREATE INDEX ix_rooms_deleted ON rooms (project_id, id) WHERE deleted_at IS NOT NULL;
CREATE INDEX ix_rooms_project_id_private_id ON rooms (project_id, private, id);
CREATE INDEX ix_users_suspended ON users (project_id, id) WHERE status = 'suspended';
CREATE UNIQUE INDEX uq_users_external ON users (project_id, external_user_id) WHERE deleted_at IS NULL;
CREATE INDEX ix_members_project_id_user_id_room_id ON members (project_id, user_id, room_id);
CREATE UNIQUE INDEX uq_messages_author ON messages (project_id, room_id, user_id, seq);
CREATE UNIQUE INDEX uq_messages_client ON messages (project_id, room_id, user_id, client_msg_id) WHERE client_msg_id IS NOT NULL;
CREATE UNIQUE INDEX uq_messages_id ON messages (project_id, id);
CREATE UNIQUE INDEX uq_users_username ON users (project_id, coalesce(username_twin, lower(username)))
WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX uq_changes_object ON changes (project_id, room_id, kind, object);
CREATE INDEX ix_changes_changed_at ON changes (changed_at);
