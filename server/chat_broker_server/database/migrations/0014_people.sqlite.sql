-- What users set about themselves. NULL everywhere where the user has set nothing.
-- 'hidden', or 'visible'.
ALTER TABLE users ADD COLUMN presence TEXT;
-- Whether others see what the user has read. NULL is TRUE.
ALTER TABLE users ADD COLUMN receipts BOOLEAN;
ALTER TABLE users ADD COLUMN notify TEXT;
-- Whether a notification holds the text. NULL is TRUE.
ALTER TABLE users ADD COLUMN push_preview BOOLEAN;
-- How often something has changed that changes `mine` of all rooms of the user, such as blocks. NULL is 0.
ALTER TABLE users ADD COLUMN version BIGINT;
-- Users whom a user does not want to hear of.
CREATE TABLE blocks (
    project_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    blocked_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    CONSTRAINT pk_blocks PRIMARY KEY (project_id, user_id, blocked_id)
) WITHOUT ROWID;
CREATE INDEX ix_blocks_blocked ON blocks (project_id, blocked_id, user_id);
-- What a display name begins with, for the directory. Usernames have an index already.
CREATE INDEX ix_users_display_name
ON users (project_id, coalesce(display_name_folded, display_name))
WHERE deleted_at IS NULL AND display_name IS NOT NULL;
