"""What frontends may ask about people: bodies and queries, checked. Framework-free."""

from dataclasses import dataclass
from typing import Literal

from chat_broker.api.requests import Body, read_number, read_query
from chat_broker.errors import BadInput
from chat_broker_kit.text.one_line import is_one_line

MOST_FOUND = 20
LONGEST_NAME = 128
MOST_ASKED = 100
LONGEST_IDS = 8192
IDS_QUERY = frozenset({"ids"})
NAME_QUERY = frozenset({"q", "limit"})


class SettingsEdit(Body):
    """What to change about the caller's settings; what is left out stays, null clears `notify`."""

    presence: Literal["visible", "hidden"] = "visible"
    receipts: bool = True
    notify: Literal["all", "mentions", "none"] | None = None
    push_preview: bool = True


@dataclass(frozen=True, slots=True)
class NameQuery:
    """The beginning of a name, and how many users to answer at most."""

    q: str
    limit: int | None = None


def read_name_query(query_string: bytes) -> NameQuery:
    """Which users are looked for."""
    query = read_query(query_string, NAME_QUERY)
    q = query.get("q", "")
    if not (0 < len(q) <= LONGEST_NAME and is_one_line(q)):
        raise BadInput.field("q", f"is needed, with 1 to {LONGEST_NAME} characters in one line")
    return NameQuery(q, read_number(query, "limit", 1, MOST_FOUND))


def read_ids_query(query_string: bytes) -> tuple[str, ...]:
    """Which users are asked for, each once."""
    text = read_query(query_string, IDS_QUERY).get("ids", "")
    names = tuple(dict.fromkeys(text.split(",")))
    if not all(names) or len(names) > MOST_ASKED or len(text) > LONGEST_IDS:
        raise BadInput.field("ids", f"is needed: 1 to {MOST_ASKED} users, with commas between them")
    return names
