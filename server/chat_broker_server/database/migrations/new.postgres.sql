CREATE TABLE alembic_version (
    version_num character varying(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO alembic_version VALUES ('0007');
CREATE TABLE api_keys (
    id text COLLATE "C" NOT NULL,
    project_id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    digest text NOT NULL,
    created_at text NOT NULL,
    revoked_at text,
    CONSTRAINT pk_api_keys PRIMARY KEY (id)
);
CREATE TABLE changes (
    project_id text COLLATE "C" NOT NULL,
    room_id text COLLATE "C" NOT NULL,
    rev bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    object text COLLATE "C" NOT NULL,
    seq bigint,
    changed_at bigint NOT NULL,
    CONSTRAINT pk_changes PRIMARY KEY (project_id, room_id, rev)
);
CREATE TABLE chat_deployment (
    one integer NOT NULL,
    id text NOT NULL,
    epoch text,
    CONSTRAINT pk_chat_deployment PRIMARY KEY (one)
);
CREATE TABLE deletions (
    project_id text COLLATE "C" NOT NULL,
    room_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    CONSTRAINT pk_deletions PRIMARY KEY (project_id, room_id, seq)
);
CREATE TABLE idempotency (
    project_id text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    fingerprint text NOT NULL,
    answer text NOT NULL,
    expires_at bigint NOT NULL,
    CONSTRAINT pk_idempotency PRIMARY KEY (project_id, scope, key)
);
CREATE TABLE members (
    project_id text COLLATE "C" NOT NULL,
    room_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    role text NOT NULL,
    joined_at text NOT NULL,
    last_read_seq bigint DEFAULT '0'::bigint NOT NULL,
    rev bigint,
    joined_rev bigint,
    delivered_seq bigint,
    from_seq bigint,
    notify text,
    muted_until text,
    archived text,
    archived_seq bigint,
    pinned_at text,
    marked_unread boolean,
    version bigint,
    CONSTRAINT pk_members PRIMARY KEY (project_id, room_id, user_id),
    CONSTRAINT ck_members_role CHECK (role = ANY (ARRAY['owner'::text, 'member'::text]))
);
CREATE TABLE messages (
    project_id text COLLATE "C" NOT NULL,
    room_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    author_seq bigint NOT NULL,
    content text NOT NULL,
    client_msg_id text COLLATE "C",
    metadata text DEFAULT '{}'::text NOT NULL,
    created_at text NOT NULL,
    edited_at text,
    deleted_at text,
    rev bigint,
    CONSTRAINT pk_messages PRIMARY KEY (project_id, room_id, seq)
);
CREATE TABLE projects (
    id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    generation bigint DEFAULT '0'::bigint NOT NULL,
    user_count bigint DEFAULT '0'::bigint NOT NULL,
    room_count bigint DEFAULT '0'::bigint NOT NULL,
    open_room_count bigint DEFAULT '0'::bigint NOT NULL,
    created_at text NOT NULL,
    CONSTRAINT pk_projects PRIMARY KEY (id)
);
CREATE TABLE revoked_sessions (
    project_id text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    expires_at bigint NOT NULL,
    CONSTRAINT pk_revoked_sessions PRIMARY KEY (project_id, user_id, session_id)
);
CREATE TABLE rooms (
    project_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    description text,
    private boolean NOT NULL,
    created_by text COLLATE "C" NOT NULL,
    member_count bigint DEFAULT '0'::bigint NOT NULL,
    last_seq bigint DEFAULT '0'::bigint NOT NULL,
    last_message_at text,
    metadata text DEFAULT '{}'::text NOT NULL,
    created_at text NOT NULL,
    updated_at text NOT NULL,
    deleted_at text,
    name_folded text,
    description_folded text,
    rev bigint,
    forgotten_rev bigint,
    light boolean,
    CONSTRAINT pk_rooms PRIMARY KEY (project_id, id)
);
CREATE TABLE signing_keys (
    kid text COLLATE "C" NOT NULL,
    algorithm text NOT NULL,
    private_key text NOT NULL,
    created_at bigint NOT NULL,
    retired_at bigint,
    CONSTRAINT pk_signing_keys PRIMARY KEY (kid)
);
CREATE TABLE users (
    project_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    external_user_id text COLLATE "C" NOT NULL,
    username text COLLATE "C" NOT NULL,
    display_name text,
    email text,
    avatar_url text,
    status text DEFAULT 'active'::text NOT NULL,
    metadata text DEFAULT '{}'::text NOT NULL,
    generation bigint DEFAULT '0'::bigint NOT NULL,
    created_at text NOT NULL,
    updated_at text NOT NULL,
    deleted_at text,
    external_user_id_folded text COLLATE "C",
    display_name_folded text,
    username_twin text COLLATE "C",
    CONSTRAINT pk_users PRIMARY KEY (project_id, id),
    CONSTRAINT ck_users_status CHECK (status = ANY (ARRAY['active'::text, 'suspended'::text]))
);
ALTER TABLE api_keys ADD CONSTRAINT fk_api_keys_projects FOREIGN KEY (project_id) REFERENCES projects(id);
ALTER TABLE members ADD CONSTRAINT fk_members_rooms FOREIGN KEY (project_id, room_id) REFERENCES rooms(project_id, id);
ALTER TABLE members ADD CONSTRAINT fk_members_users FOREIGN KEY (project_id, user_id) REFERENCES users(project_id, id);
ALTER TABLE messages ADD CONSTRAINT fk_messages_rooms FOREIGN KEY (project_id, room_id) REFERENCES rooms(project_id, id);
ALTER TABLE rooms ADD CONSTRAINT fk_rooms_projects FOREIGN KEY (project_id) REFERENCES projects(id);
ALTER TABLE users ADD CONSTRAINT fk_users_projects FOREIGN KEY (project_id) REFERENCES projects(id);
CREATE INDEX ix_api_keys_project_id ON api_keys USING btree (project_id);
CREATE INDEX ix_changes_changed_at ON changes USING btree (changed_at);
CREATE INDEX ix_idempotency_expires_at ON idempotency USING btree (expires_at);
CREATE INDEX ix_members_project_id_user_id_room_id ON members USING btree (project_id, user_id, room_id);
CREATE INDEX ix_revoked_sessions_expires_at ON revoked_sessions USING btree (expires_at);
CREATE INDEX ix_rooms_deleted ON rooms USING btree (project_id, id) WHERE deleted_at IS NOT NULL;
CREATE INDEX ix_rooms_project_id_private_id ON rooms USING btree (project_id, private, id);
CREATE INDEX ix_users_suspended ON users USING btree (project_id, id) WHERE status = 'suspended'::text;
CREATE UNIQUE INDEX uq_changes_object ON changes USING btree (project_id, room_id, kind, object);
CREATE UNIQUE INDEX uq_messages_author ON messages USING btree (project_id, room_id, user_id, seq);
CREATE UNIQUE INDEX uq_messages_client ON messages USING btree (project_id, room_id, user_id, client_msg_id) WHERE client_msg_id IS NOT NULL;
CREATE UNIQUE INDEX uq_messages_id ON messages USING btree (project_id, id);
CREATE UNIQUE INDEX uq_users_external ON users USING btree (project_id, external_user_id) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX uq_users_username ON users USING btree (project_id, COALESCE(username_twin, lower(username))) WHERE deleted_at IS NULL;
