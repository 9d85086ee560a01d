-- What a client remembers of this database is worth something only while this stays the same.
ALTER TABLE chat_deployment ADD COLUMN epoch TEXT;
