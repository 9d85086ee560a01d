"""client.auth: checking a chat token."""

from chat_broker_sdk._models import AuthInfo

from .api import Api


class Auth:
    """Calls about this client's own chat token."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def verify(self) -> AuthInfo:
        """The user of this client's token. Raises AuthenticationError if the token is not valid any more."""
        dialect = self._api.dialect
        return self._api.request("GET", dialect.prefix + dialect.verify_path, AuthInfo, auth="user")
