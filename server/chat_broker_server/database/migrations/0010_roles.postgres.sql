-- Four roles.
ALTER TABLE members
    DROP CONSTRAINT ck_members_role,
    ADD CONSTRAINT ck_members_role CHECK (role IN ('owner', 'moderator', 'member', 'guest'));
-- What the owner has set, as JSON. NULL is nothing.
ALTER TABLE rooms ADD COLUMN settings TEXT;
