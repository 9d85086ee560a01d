"""client.auth: checking a chat token."""

from chat_broker_sdk._models import AuthInfo

from .api import AsyncApi


class AsyncAuth:
    """Calls about this client's own chat token."""

    def __init__(self, api: AsyncApi) -> None:
        self._api = api

    async def verify(self) -> AuthInfo:
        """The user of this client's token. Raises AuthenticationError if the token is not valid any more."""
        dialect = self._api.dialect
        return await self._api.request(
            "GET", dialect.prefix + dialect.verify_path, AuthInfo, auth="user"
        )
