"""Identifies a deployment, and the present data of its database. Both ids are in the database, so all replicas agree."""

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
    id: str
    epoch: str
    """Opaque. A `seq` that a client stored under another epoch means nothing in this database."""


async def deployment(database: Database) -> Deployment:
    """The deployment of *database*, made on the first start."""
    rows = await database.read(partial(all_rows, Query(_FIND)))
    if not rows or rows[0][1] is None:
        rows = await database.write(
            partial(all_rows, Query(_MAKE, secrets.token_hex(8), secrets.token_hex(8)))
        )
    return Deployment(*rows[0])
