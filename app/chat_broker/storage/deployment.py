"""What tells one deployment from another: an id that its database holds, so that all its replicas agree."""

import secrets

from chat_broker_kit.database.transactions import Database, Query, Steps

_FIND = "SELECT id FROM broker_deployment WHERE one = 1"
_MAKE = "INSERT INTO broker_deployment (one, id) VALUES (1, $1) ON CONFLICT (one) DO NOTHING"


async def deployment_id(database: Database) -> str:
    """The id, made on the first start. Raises StateUnavailable."""

    def find_or_make() -> Steps[str]:
        rows = yield Query(_FIND)
        if not rows:
            yield Query(_MAKE, secrets.token_hex(8))
            rows = yield Query(_FIND)
        return str(rows[0][0])

    return await database.write(find_or_make)
