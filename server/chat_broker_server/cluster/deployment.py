"""What tells one deployment from another: an id that its database holds, so that all its replicas agree."""

import secrets
from functools import partial

from chat_broker_kit.database.transactions import Database, Query, Steps

_FIND = "SELECT id FROM chat_deployment WHERE one = 1"
_MAKE = "INSERT INTO chat_deployment (one, id) VALUES (1, $1) ON CONFLICT (one) DO NOTHING"


async def deployment_id(database: Database) -> str:
    """The id, made on the first start."""
    return await database.read(_find) or await database.write(partial(_make, secrets.token_hex(8)))


def _find() -> Steps[str]:
    rows = yield Query(_FIND)
    return str(rows[0][0]) if rows else ""


def _make(new_id: str) -> Steps[str]:
    yield Query(_MAKE, new_id)
    return (yield from _find())
