-- How many messages count as unread, up to the newest one. NULL in a room where all do: its last_seq.
ALTER TABLE rooms ADD COLUMN counted BIGINT;
-- Likewise up to this message. NULL is its seq.
ALTER TABLE messages ADD COLUMN counted BIGINT;
-- 'system', or NULL for a message that a user wrote.
ALTER TABLE messages ADD COLUMN type TEXT;
ALTER TABLE messages ADD COLUMN event TEXT;
ALTER TABLE messages ADD COLUMN reply_to_seq BIGINT;
-- What else there is to read of a message, bit by bit. NULL for a plain one.
ALTER TABLE messages ADD COLUMN flags BIGINT;
CREATE INDEX ix_messages_replies ON messages (project_id, room_id, reply_to_seq, seq) WHERE reply_to_seq IS NOT NULL;
-- Whom a message names; user_id '' is everybody in the room.
CREATE TABLE mentions (
    project_id TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    room_id TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    -- In the message's list.
    position BIGINT NOT NULL,
    author_id TEXT COLLATE "C" NOT NULL,
    -- Of the message.
    created_at TEXT NOT NULL,
    -- The message is silent, or names everybody too: then that row is counted.
    uncounted BOOLEAN,
    CONSTRAINT pk_mentions PRIMARY KEY (project_id, user_id, room_id, seq)
);
CREATE INDEX ix_mentions_message ON mentions (project_id, room_id, seq);
