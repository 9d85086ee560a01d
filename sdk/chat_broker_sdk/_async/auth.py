"""client.auth: checking a chat token."""

from chat_broker_sdk._credentials import seal, user_token
from chat_broker_sdk._models import AuthInfo

from .api import AsyncApi


class AsyncAuth:
    """Calls about this client's own chat token."""

    def __init__(self, api: AsyncApi) -> None:
        self._api = api

    async def verify(self, token: str | None = None) -> AuthInfo:
        """The user of *token*; without one, of this client's token.

        Raises AuthenticationError if the token is not valid any more, ConfigurationError (`bad_token`) if it cannot be one.
        """
        sealed = None if token is None else seal(token)
        del token  # so that no traceback's frame holds it
        dialect = self._api.dialect
        return await self._api.request(
            "GET",
            dialect.prefix + dialect.verify_path,
            AuthInfo,
            auth="user" if sealed is None else user_token(sealed),
        )
