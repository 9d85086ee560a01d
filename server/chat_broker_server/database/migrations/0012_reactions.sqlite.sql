ALTER TABLE messages ADD COLUMN pinned_at TEXT;
-- NULL for one that the API key pinned.
ALTER TABLE messages ADD COLUMN pinned_by TEXT;
CREATE INDEX ix_messages_pinned ON messages (project_id, room_id, pinned_at) WHERE pinned_at IS NOT NULL;
CREATE TABLE reactions (
    project_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    user_id TEXT NOT NULL,
    emoji TEXT NOT NULL,
    -- Of the room when the user reacted: the order of a message's reactions.
    rev BIGINT NOT NULL,
    created_at TEXT NOT NULL,
    CONSTRAINT pk_reactions PRIMARY KEY (project_id, room_id, seq, user_id, emoji)
) WITHOUT ROWID;
CREATE INDEX ix_reactions_user ON reactions (project_id, room_id, user_id, seq);
CREATE INDEX ix_reactions_emoji ON reactions (project_id, room_id, seq, emoji, rev);
-- A message's reactions as they are answered: what a page reads of them.
CREATE TABLE reaction_counts (
    project_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    emoji TEXT NOT NULL,
    count BIGINT NOT NULL,
    -- Of the reaction that made this row.
    first_rev BIGINT NOT NULL,
    -- A JSON list: the newest ten, the last one first.
    user_ids TEXT NOT NULL,
    CONSTRAINT pk_reaction_counts PRIMARY KEY (project_id, room_id, seq, emoji)
) WITHOUT ROWID;
