-- A username is unique without regard to case. Those of today stay, also those that differ in case alone: all but
-- the eldest of them have here the name in lower case, a space and the id, until the next change of the name.
ALTER TABLE users ADD COLUMN username_twin TEXT COLLATE "C";
UPDATE users SET username_twin = lower(username) || ' ' || id
WHERE (project_id, id) IN (
    SELECT project_id, id FROM (
        SELECT project_id, id, row_number() OVER (
            PARTITION BY project_id, lower(username) ORDER BY created_at, id
        ) AS place
        FROM users WHERE deleted_at IS NULL
    ) AS named
    WHERE place > 1
);
DROP INDEX uq_users_username;
CREATE UNIQUE INDEX uq_users_username ON users (project_id, coalesce(username_twin, lower(username)))
WHERE deleted_at IS NULL;
