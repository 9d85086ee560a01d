-- What `q` looks at, as `fold` leaves it; NULL where that is the text itself. folded_names.py fills them.
ALTER TABLE users ADD COLUMN external_user_id_folded TEXT;
ALTER TABLE users ADD COLUMN display_name_folded TEXT;
ALTER TABLE rooms ADD COLUMN name_folded TEXT;
ALTER TABLE rooms ADD COLUMN description_folded TEXT;
