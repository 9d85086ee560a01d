"""The two credentials. Each knows the header it goes into, and shows itself to nobody else."""

import re
from collections.abc import Callable
from typing import Any, NoReturn

from ._dialect import Dialect
from ._errors import ConfigurationError

# RFC 9110 field values without spaces: also keeps CR, LF and NUL out of the request head.
_SENDABLE = re.compile(r"[\x21-\x7e]{1,8192}")


class _Hidden(str):
    """A header value that a debugger's or crash reporter's repr does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"


class _Credential:
    """A secret behind a function: repr, str, format, vars, pickle and captured locals show none of it."""

    __slots__ = ("_reveal",)

    _what = "credential"

    def __init__(self, reveal: Callable[[], str]) -> None:
        self._reveal = reveal

    def scrub(self, text: str) -> str:
        """*text* with every occurrence of the secret taken out, should a server ever repeat it."""
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
        raise TypeError(f"a {self._what} is not pickled")


class ApiKey(_Credential):
    """The project's API key."""

    __slots__ = ()
    _what = "API key"

    def header(self, dialect: Dialect) -> tuple[str, str]:
        """The header that carries the key. The only way to its value."""
        return dialect.api_key_header, _Hidden(dialect.api_key_prefix + self._reveal())


class UserToken(_Credential):
    """One user's chat JWT."""

    __slots__ = ()
    _what = "chat token"

    def header(self, dialect: Dialect) -> tuple[str, str]:
        """The header that carries the token."""
        return dialect.token_header, _Hidden(dialect.token_prefix + self._reveal())

    def reveal(self) -> str:
        """The token itself, for the handshake of the live connection."""
        return self._reveal()


def seal(value: object) -> Callable[[], str] | str:
    """A function that returns *value*, or what is wrong with it in words that do not repeat it.

    Does not raise: a traceback's frames would hold the bare value.
    """
    if not isinstance(value, str):
        return "is not a string"
    if not value:
        return "is empty"
    if not _SENDABLE.fullmatch(value):
        return "has spaces, control characters, non-ASCII characters, or is longer than 8192"
    return lambda: value


def api_key(sealed: Callable[[], str] | str) -> ApiKey:
    """An ApiKey from what `seal` said of it."""
    if isinstance(sealed, str):
        raise ConfigurationError(f"The API key {sealed}", code="bad_api_key")
    return ApiKey(sealed)


def user_token(sealed: Callable[[], str] | str) -> UserToken:
    """A UserToken from what `seal` said of it."""
    if isinstance(sealed, str):
        raise ConfigurationError(f"The chat token {sealed}", code="bad_token")
    return UserToken(sealed)
