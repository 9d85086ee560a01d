"""client.auth"""

from chat_broker_sdk._models import AuthInfo

from .api import AsyncApi


class AsyncAuth:
    """Questions about a chat token."""

    def __init__(self, api: AsyncApi) -> None:
        self._api = api

    async def verify(self) -> AuthInfo:
        """Whom this client's token stands for. Raises AuthenticationError if it is no longer good."""
        dialect = self._api.dialect
        return await self._api.request(
            "GET", dialect.prefix + dialect.verify_path, AuthInfo, who="user"
        )
