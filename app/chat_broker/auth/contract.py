"""The protocol of authenticators, and the errors of signing in."""

from typing import Protocol

from starlette.requests import HTTPConnection

from chat_broker.chat.principal import Principal


class Authenticator(Protocol):
    """Finds and verifies the credential of a request. Safe to call for many requests at once."""

    async def __call__(self, request: HTTPConnection, /) -> Principal | None:
        """The principal; None if the request has no credential.

        Raises InvalidCredentials, AmbiguousCredentials, BadProxyHeaders or ProviderUnavailable.
        """
        ...

    def cached_principal(self, bearer: bytes, *, beside_cookies: bool) -> Principal | None:
        """The principal for a request whose only `Authorization` is a bearer token with the digest *bearer*.

        *beside_cookies*: the request has cookies as well. None if no cache knows: call the authenticator.
        """
        ...

    def recognizes(self, bearer: str) -> bool:
        """Whether a mode would verify the bearer token as the app's credential, valid or not."""
        ...


class BadToken(ValueError):  # noqa: N818 - named for what happened
    """The token is not accepted. The message says why, and holds no part of the token."""


class _Refused(Exception):  # noqa: N818 - as above
    """*reason* is for the log, never for the response."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidCredentials(_Refused):
    """The request has a credential, and it is not valid."""


class BadProxyHeaders(_Refused):
    """The identity headers have a form that no proxy sends."""


class AmbiguousCredentials(Exception):  # noqa: N818 - as above
    """One request carries two different credentials."""


class ProviderUnavailable(Exception):  # noqa: N818 - as above
    """The identity provider did not respond when it was needed. *retry_after* is in seconds."""

    def __init__(self, retry_after: float = 5.0) -> None:
        super().__init__("the identity provider does not answer")
        self.retry_after = retry_after
