"""Step of migration 0002: fills the `…_folded` columns, which searches compare without case, width and accents."""

from collections.abc import Iterator, Sequence

from chat_broker_kit.database.transactions import Query, Rows, Steps
from chat_broker_kit.text import folding

PORTION = 1000


def fold_names() -> Steps[None]:
    yield from _fold_all("users", "external_user_id", "display_name")
    yield from _fold_all("rooms", "name", "description")


def _fold_all(table: str, first: str, second: str) -> Steps[None]:
    """Walk the table by key, a portion of rows at a time, and write each row at most once."""
    portion = (
        f"SELECT project_id, id, {first}, {second} FROM {table}"
        f" WHERE (project_id, id) > ($1, $2) ORDER BY project_id, id LIMIT {PORTION}"
    )
    after: Sequence[str] = ("", "")
    while rows := (yield Query(portion, *after)):
        after = rows[-1][:2]
        values = [value for row in _changed(rows) for value in row]
        if values:
            places = ", ".join(
                f"(${n}, ${n + 1}, ${n + 2}, ${n + 3})" for n in range(1, len(values), 4)
            )
            yield Query(
                f"UPDATE {table} SET {first}_folded = folded.column3, {second}_folded = folded.column4"
                f" FROM (VALUES {places}) AS folded"
                f" WHERE {table}.project_id = folded.column1 AND {table}.id = folded.column2",
                *values,
            )


def _changed(rows: Rows) -> Iterator[tuple[str | None, ...]]:
    """Key and folded texts of each row that folding changes. None stands for a text that stays the same."""
    for project_id, row_id, *texts in rows:
        folded = [None if text is None else folding.fold(text) for text in texts]
        changed = [None if new == old else new for new, old in zip(folded, texts, strict=True)]
        if any(text is not None for text in changed):
            yield project_id, row_id, *changed
