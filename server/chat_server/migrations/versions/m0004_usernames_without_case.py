"""A username is unique without regard to case. Those of today stay, whoever they resemble."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
PRESENT = sa.text("deleted_at IS NULL")


def upgrade() -> None:
    op.add_column("users", sa.Column("username_twin", NAME))
    # All but the eldest of those whose names differ in case alone.
    op.execute(
        "UPDATE users SET username_twin = lower(username) || ' ' || id WHERE (project_id, id) IN"
        " (SELECT project_id, id FROM (SELECT project_id, id, row_number() OVER"
        " (PARTITION BY project_id, lower(username) ORDER BY created_at, id) AS place"
        " FROM users WHERE deleted_at IS NULL) AS named WHERE place > 1)"
    )
    op.drop_index("uq_users_username", table_name="users")
    op.create_index(
        "uq_users_username",
        "users",
        ["project_id", sa.text("coalesce(username_twin, lower(username))")],
        unique=True,
        sqlite_where=PRESENT,
        postgresql_where=PRESENT,
    )
