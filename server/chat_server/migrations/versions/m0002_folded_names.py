"""Names are found whatever their case, width and accents, on every database alike."""

import sqlalchemy as sa
from alembic import op

from chat_broker_kit.folding import fold

revision = "0002"
down_revision = "0001"

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
PORTION = 1000


def upgrade() -> None:
    op.add_column("users", sa.Column("external_user_id_folded", NAME))
    op.add_column("users", sa.Column("display_name_folded", sa.Text()))
    op.add_column("rooms", sa.Column("name_folded", sa.Text()))
    op.add_column("rooms", sa.Column("description_folded", sa.Text()))
    _fold_all("users", "external_user_id", "display_name")
    _fold_all("rooms", "name", "description")


def _fold_all(table: str, *columns: str) -> None:
    """Fill what is found by: a portion of rows at a time, by key, each row written once at most."""
    connection = op.get_bind()
    portion = sa.text(
        f"SELECT project_id, id, {', '.join(columns)} FROM {table}"  # noqa: S608 - names of ours
        " WHERE (project_id, id) > (:pid, :id) ORDER BY project_id, id LIMIT :most"
    )
    fill = ", ".join(f"{column}_folded = :{column}" for column in columns)
    update = sa.text(
        f"UPDATE {table} SET {fill} WHERE project_id = :pid AND id = :id"  # noqa: S608 - likewise
    )
    after = {"pid": "", "id": ""}
    while rows := connection.execute(portion, {**after, "most": PORTION}).fetchall():
        changed = []
        for pid, row_id, *texts in rows:
            after = {"pid": pid, "id": row_id}
            found = [None if text is None else fold(text) for text in texts]
            if found != texts:
                kept = [None if new == old else new for new, old in zip(found, texts, strict=True)]
                changed.append({**after, **dict(zip(columns, kept, strict=True))})
        if changed:
            connection.execute(update, changed)
