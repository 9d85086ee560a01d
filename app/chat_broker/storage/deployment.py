"""What tells one deployment from another: an id that its database holds, so that all its replicas agree."""

import secrets

from chat_broker.storage.database import Database

_FIND = "SELECT id FROM broker_deployment WHERE one = 1"
_MAKE = "INSERT INTO broker_deployment (one, id) VALUES (1, :id) ON CONFLICT (one) DO NOTHING"


async def deployment_id(database: Database) -> str:
    """The id, made on the first start. Raises StateUnavailable."""
    row = await database.one(_FIND)
    if row is None:
        async with database.write() as transaction:
            await transaction.run(_MAKE, id=secrets.token_hex(8))
        row = await database.one(_FIND)
    assert row is not None  # noqa: S101 - nobody removes it
    return str(row["id"])
