-- When the user was last seen online: written when they go offline, and now and then while they are online.
ALTER TABLE users ADD COLUMN last_seen_at TEXT;
