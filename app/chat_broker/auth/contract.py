"""What every way of signing in has in common."""

from typing import Protocol

from starlette.requests import HTTPConnection

from chat_broker.chat.principal import Principal


class Authenticator(Protocol):
    """Tells who is asking. Safe to call for many requests at once."""

    async def __call__(self, request: HTTPConnection, /) -> Principal | None:
        """The principal; None if no credential of this kind was presented.

        Raises InvalidCredentials, AmbiguousCredentials, BadProxyHeaders or ProviderUnavailable.
        """
        ...

    def recall(self, bearer: bytes, *, beside_cookies: bool) -> Principal | None:
        """The same for a request whose only `Authorization` is a bearer token with the digest *bearer*.

        None if that takes more than remembering.
        """
        ...

    def takes(self, bearer: str) -> bool:
        """Whether *bearer*, in an `Authorization` header, would be taken for the app's credential, good or not."""
        ...


class BadToken(ValueError):  # noqa: N818 - named for what happened
    """This is not a token we accept; the text says why, and holds nothing of the token itself."""


class InvalidCredentials(Exception):  # noqa: N818 - what was presented, not what failed
    """A credential was presented and is not good. *reason* is for the log, never for the answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AmbiguousCredentials(Exception):  # noqa: N818 - as above
    """Two different credentials came in one request."""


class BadProxyHeaders(Exception):  # noqa: N818 - as above
    """Identity headers came in a form that no honest proxy sends. *reason* is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ProviderUnavailable(Exception):  # noqa: N818 - as above
    """The identity provider had to be asked and did not answer. *retry_after* is in seconds."""

    def __init__(self, retry_after: float = 5.0) -> None:
        super().__init__("the identity provider does not answer")
        self.retry_after = retry_after
