"""What tells one deployment from another, and one life of its database from the next: all its replicas agree, since the database holds it."""

import secrets
from functools import partial
from typing import NamedTuple

from chat_broker_kit.database.transactions import Database, Query, all_rows

_FIND = "SELECT id, epoch FROM chat_deployment WHERE one = 1"
_MAKE = (
    "INSERT INTO chat_deployment (one, id, epoch) VALUES (1, $1, $2)"
    " ON CONFLICT (one) DO UPDATE SET epoch = coalesce(chat_deployment.epoch, excluded.epoch)"
    " RETURNING id, epoch"
)


class Deployment(NamedTuple):
    """A database that several replicas may share."""

    id: str
    epoch: str
    """Opaque. A client that remembers numbers of another one knows nothing of this database."""


async def deployment(database: Database) -> Deployment:
    """The deployment of *database*, made on the first start."""
    found = await database.read(partial(all_rows, Query(_FIND)))
    if not found or found[0][1] is None:
        found = await database.write(
            partial(all_rows, Query(_MAKE, secrets.token_hex(8), secrets.token_hex(8)))
        )
    return Deployment(*found[0])
