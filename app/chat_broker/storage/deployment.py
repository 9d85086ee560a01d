"""The id of a deployment. Its database stores it, so that all replicas use the same one."""

import secrets

from chat_broker_kit.database.transactions import Database, Query, Steps

_FIND = "SELECT id FROM broker_deployment WHERE one = 1"
_MAKE = "INSERT INTO broker_deployment (one, id) VALUES (1, $1) ON CONFLICT (one) DO NOTHING"


async def deployment_id(database: Database) -> str:
    """The id; the first start creates it. Raises StateUnavailable."""

    def find_or_make() -> Steps[str]:
        rows = yield Query(_FIND)
        if not rows:
            yield Query(_MAKE, secrets.token_hex(8))
            rows = yield Query(_FIND)
        return str(rows[0][0])

    return await database.write(find_or_make)
