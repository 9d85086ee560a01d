-- Of messages that are not deleted. NULL in a room of before, until a message of it is deleted: all but its deletions.
ALTER TABLE rooms ADD COLUMN message_count BIGINT;
