-- A room counts its changes as it counts its messages. NULL is 0 everywhere: never changed.
ALTER TABLE rooms ADD COLUMN rev BIGINT;
-- Changes up to this one are no longer kept.
ALTER TABLE rooms ADD COLUMN forgotten_rev BIGINT;
-- Whether it is a large room; NULL where that follows from the number of members alone.
ALTER TABLE rooms ADD COLUMN light BOOLEAN;
ALTER TABLE messages ADD COLUMN rev BIGINT;
ALTER TABLE members ADD COLUMN rev BIGINT;
ALTER TABLE members ADD COLUMN joined_rev BIGINT;
-- One row an object that has changed, with its last change.
CREATE TABLE changes (
    project_id TEXT COLLATE "C" NOT NULL,
    room_id TEXT COLLATE "C" NOT NULL,
    rev BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    -- The id of a message or a user; '' for the room itself.
    object TEXT COLLATE "C" NOT NULL,
    -- Of a message.
    seq BIGINT,
    changed_at BIGINT NOT NULL,
    CONSTRAINT pk_changes PRIMARY KEY (project_id, room_id, rev)
);
CREATE UNIQUE INDEX uq_changes_object ON changes (project_id, room_id, kind, object);
CREATE INDEX ix_changes_changed_at ON changes (changed_at);
