-- NULL for a room of the kind `room`.
ALTER TABLE rooms ADD COLUMN kind TEXT;
-- The app's own id of the room.
ALTER TABLE rooms ADD COLUMN external_id TEXT;
-- Of a direct room: the SHA-256 of its users, so that there is one room for a set of users.
ALTER TABLE rooms ADD COLUMN direct_key TEXT;
CREATE UNIQUE INDEX uq_rooms_external_id ON rooms (project_id, external_id) WHERE external_id IS NOT NULL;
CREATE UNIQUE INDEX uq_rooms_direct_key ON rooms (project_id, direct_key) WHERE direct_key IS NOT NULL;
CREATE INDEX ix_rooms_kind ON rooms (project_id, kind, id) WHERE kind IS NOT NULL;
