"""Everything that can go wrong, as one tree.

ChatError                        base: status, code, request_id, retry_after
├── ConfigurationError           the client was built or used wrongly (also a ValueError)
├── AuthenticationError          401, 403: the key or token is missing, wrong, or not allowed to do this
├── NotFoundError                404: no such thing, or not visible to this caller
├── ValidationError              400, 413, 415, 422 …: the input was refused; `errors` names the fields
├── ConflictError                409: something with that name, or that very call, exists already
├── RateLimitError               429: too many calls; `retry_after` says how long to wait
├── ServerError                  5xx, or an answer that is not what the contract says (`bad_response`)
│   └── UnsupportedOperationError   501: this server does not offer the operation
├── NetworkError                 no answer came: refused, reset, cut off
│   ├── TimeoutError             no answer came in time (also the built-in TimeoutError)
│   └── CircuitOpenError         not even sent: the last calls all failed
└── WebSocketError               the live connection was refused, lost for good, or not open
"""

import builtins
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_LONGEST_DETAIL = 500


@dataclass(frozen=True, slots=True)
class FieldError:
    """One refused field: where it is, and why."""

    field: str
    message: str


class ChatError(Exception):
    """Something about a chat call failed. Holds no credential and no response body.

    *status* is the HTTP status, or None when nothing was answered; *code* is the contract's stable
    snake_case name of the problem; *retry_after* is in seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        errors: tuple[FieldError, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
        self.errors = errors

    @property
    def message(self) -> str:
        """What happened, in one sentence."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive pickle and copy with every attribute (keyword-only arguments do not by themselves)."""
        return _rebuild, (type(self), self.message, dict(self.__dict__))

    def __repr__(self) -> str:
        facts = [
            f"{name}={value!r}"
            for name in ("status", "code", "request_id", "retry_after")
            if (value := getattr(self, name)) is not None
        ]
        return f"{type(self).__name__}({', '.join([repr(self.message), *facts])})"


def _rebuild(kind: type[ChatError], message: str, attributes: dict[str, Any]) -> ChatError:
    error = kind(message)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(ChatError, ValueError):
    """The client was built or used wrongly; nothing was sent."""


class AuthenticationError(ChatError):
    """The API key or the token is missing, wrong, or not allowed to do this (401, 403)."""


class NotFoundError(ChatError):
    """There is no such thing, or this caller may not know of it (404)."""


class ValidationError(ChatError):
    """The input was refused, by the server or before anything was sent; see `errors` for the fields."""


class ConflictError(ChatError):
    """The name is taken, or the same call is still running (409)."""


class RateLimitError(ChatError):
    """Too many calls; wait `retry_after` seconds (429)."""


class ServerError(ChatError):
    """The server failed (5xx), or answered something the contract does not allow (`bad_response`)."""


class UnsupportedOperationError(ServerError):
    """This server does not offer the operation (501)."""


class NetworkError(ChatError):
    """No complete answer came: refused, reset, or cut off. A call that is not repeatable may have happened."""


class TimeoutError(NetworkError, builtins.TimeoutError):  # noqa: A001 - the name the README promises
    """No complete answer came in time."""


class CircuitOpenError(NetworkError):
    """Nothing was sent, because the last calls all failed; wait `retry_after` seconds."""


class WebSocketError(ChatError):
    """The live connection was refused, was lost for good, or is not open."""


_KINDS: Mapping[int, tuple[type[ChatError], str]] = {
    400: (ValidationError, "bad_request"),
    401: (AuthenticationError, "not_authenticated"),
    403: (AuthenticationError, "forbidden"),
    404: (NotFoundError, "not_found"),
    409: (ConflictError, "conflict"),
    410: (NotFoundError, "not_found"),
    413: (ValidationError, "too_large"),
    415: (ValidationError, "unsupported_media_type"),
    422: (ValidationError, "unprocessable"),
    429: (RateLimitError, "rate_limited"),
    501: (UnsupportedOperationError, "not_implemented"),
}


def kind_of(status: int) -> tuple[type[ChatError], str]:
    """The class for an error *status*, and the code to use where the server gave none."""
    if known := _KINDS.get(status):
        return known
    if 400 <= status < 500:
        return ValidationError, "bad_request"
    return ServerError, "server_error" if status >= 500 else "bad_response"


def from_problem(
    status: int, problem: object, *, request_id: str | None, retry_after: float | None
) -> ChatError:
    """The error for an answer of *status* whose body parsed to *problem* (None if it was no JSON).

    Only the contract's fields are believed, each only in its expected shape; anything else of the body
    goes nowhere.
    """
    kind, code = kind_of(status)
    told: Mapping[str, Any] = problem if isinstance(problem, Mapping) else {}
    if isinstance(given := told.get("code"), str) and _CODE.fullmatch(given):
        code = given
    if isinstance(given := told.get("request_id"), str):
        request_id = given
    if request_id is not None and not _REQUEST_ID.fullmatch(request_id):
        request_id = None
    message = f"The Chat API answered {status} ({code})"
    detail = told.get("detail") or told.get("message")
    if isinstance(detail, str):
        message = f"{message}: {_one_line(detail)}"
    return kind(
        message,
        status=status,
        code=code,
        request_id=request_id,
        retry_after=retry_after,
        errors=_field_errors(told.get("errors")),
    )


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= _LONGEST_DETAIL else line[: _LONGEST_DETAIL - 1] + "…"


def _field_errors(given: object) -> tuple[FieldError, ...]:
    if not isinstance(given, list):
        return ()
    return tuple(
        FieldError(_one_line(item["field"]), _one_line(item["message"]))
        for item in given[:50]
        if isinstance(item, Mapping)
        and isinstance(item.get("field"), str)
        and isinstance(item.get("message"), str)
    )


def bad_response(what: str, *, status: int | None, request_id: str | None = None) -> ServerError:
    """The error for an answer that breaks the contract; *what* says how, never quoting it."""
    if request_id is not None and not _REQUEST_ID.fullmatch(request_id):
        request_id = None
    return ServerError(
        f"The Chat API's answer is not what the contract says: {what}",
        status=status,
        code="bad_response",
        request_id=request_id,
    )
