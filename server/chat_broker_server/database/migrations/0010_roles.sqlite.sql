-- Four roles. SQLite has no statement for another CHECK, which is only text of the schema: no row is touched.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(
    sql, 'CHECK (role IN (''owner'', ''member''))', 'CHECK (role IN (''owner'', ''moderator'', ''member'', ''guest''))'
) WHERE type = 'table' AND name = 'members';
PRAGMA writable_schema = RESET;
-- What the owner has set, as JSON. NULL is nothing. This statement also tells other connections of the new schema.
ALTER TABLE rooms ADD COLUMN settings TEXT;
