"""The errors of sign-in: credentials that are refused, and providers that do not answer."""


class BadToken(ValueError):  # noqa: N818 - named for what happened
    """The token is not accepted. The message says why, and holds no part of the token."""


class _RefusedCredentials(Exception):  # noqa: N818 - as above
    """*reason* is for the log, never for the response."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class InvalidCredentials(_RefusedCredentials):
    """The request has a credential, and it is not valid."""


class BadProxyHeaders(_RefusedCredentials):
    """The identity headers have a form that no proxy sends."""


class AmbiguousCredentials(Exception):  # noqa: N818 - as above
    """One request carries two different credentials."""


class ProviderUnavailable(Exception):  # noqa: N818 - as above
    """The identity provider did not respond when it was needed. *retry_after* is in seconds."""

    def __init__(self, retry_after: float = 5.0) -> None:
        super().__init__("the identity provider does not answer")
        self.retry_after = retry_after
