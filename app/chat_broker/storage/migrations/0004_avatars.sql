-- The avatar that the Chat API was last told of a user.
ALTER TABLE links ADD COLUMN avatar_url TEXT;
