"""The API key and the chat token: hidden values that only their request header reveals."""

import re
from collections.abc import Callable
from typing import Any, NoReturn

from ._dialect import Dialect
from ._errors import ConfigurationError

# RFC 9110 field values without spaces. Keeps CR, LF and NUL out of the request head.
_HEADER_SAFE = re.compile(r"[\x21-\x7e]{1,8192}")


class _Hidden(str):
    """A header value that a debugger's or crash reporter's repr does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"


class _Credential:
    """A secret held in a closure, so that repr, str, format, vars and captured locals do not show it. Not pickled."""

    __slots__ = ("_reveal",)

    _kind = "credential"

    def __init__(self, reveal: Callable[[], str]) -> None:
        self._reveal = reveal

    def scrub(self, text: str) -> str:
        """*text* with each occurrence of the secret replaced: a server may repeat it in an error."""
        return text.replace(self._reveal(), "[hidden]")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} hidden>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __copy__(self) -> "_Credential":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Credential":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {self._kind} is not pickled")


class ApiKey(_Credential):
    """The project's API key."""

    __slots__ = ()
    _kind = "API key"

    def header(self, dialect: Dialect) -> tuple[str, str]:
        """The header's name and its value, which holds the key."""
        return dialect.api_key_header, _Hidden(dialect.api_key_prefix + self._reveal())


class UserToken(_Credential):
    """One user's chat JWT."""

    __slots__ = ()
    _kind = "chat token"

    def header(self, dialect: Dialect) -> tuple[str, str]:
        """The header's name and its value, which holds the token."""
        return dialect.token_header, _Hidden(dialect.token_prefix + self._reveal())

    def reveal(self) -> str:
        """The bare token, for the handshake of the live connection."""
        return self._reveal()


def seal(value: object) -> Callable[[], str] | str:
    """A function that returns *value*, or a string that says what is wrong with it without repeating it.

    Never raises: the traceback's frames would hold the bare value.
    """
    if not isinstance(value, str):
        return "is not a string"
    if not value:
        return "is empty"
    if not _HEADER_SAFE.fullmatch(value):
        return "has spaces, control characters, non-ASCII characters, or is longer than 8192"
    return lambda: value


def api_key(sealed: Callable[[], str] | str) -> ApiKey:
    """The API key from the result of `seal`. Raises ConfigurationError (`bad_api_key`)."""
    if isinstance(sealed, str):
        raise ConfigurationError(f"The API key {sealed}", code="bad_api_key")
    return ApiKey(sealed)


def user_token(sealed: Callable[[], str] | str) -> UserToken:
    """The chat token from the result of `seal`. Raises ConfigurationError (`bad_token`)."""
    if isinstance(sealed, str):
        raise ConfigurationError(f"The chat token {sealed}", code="bad_token")
    return UserToken(sealed)
