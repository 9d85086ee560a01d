-- A member's own side of a room. NULL everywhere where the member never touched it.
-- Messages up to this one have reached a device of the member; those up to last_read_seq have, too.
ALTER TABLE members ADD COLUMN delivered_seq BIGINT;
-- Messages before this one are hidden from the member. NULL is 1.
ALTER TABLE members ADD COLUMN from_seq BIGINT;
ALTER TABLE members ADD COLUMN notify TEXT;
ALTER TABLE members ADD COLUMN muted_until TEXT;
-- 'yes' or 'until_message'; the latter holds until there is a message after archived_seq.
ALTER TABLE members ADD COLUMN archived TEXT;
ALTER TABLE members ADD COLUMN archived_seq BIGINT;
ALTER TABLE members ADD COLUMN pinned_at TEXT;
ALTER TABLE members ADD COLUMN marked_unread BOOLEAN;
-- How often this row has changed. NULL is 0.
ALTER TABLE members ADD COLUMN version BIGINT;
