"""The errors of the SDK, as one tree.

ChatError                        base: status, code, request_id, retry_after
├── ConfigurationError           the client was built or used wrongly (also a ValueError)
├── AuthenticationError          401, 403: the key or token is missing, wrong, or not allowed to do this
├── NotFoundError                404: it does not exist, or this caller may not see it
├── ValidationError              400, 413, 415, 422 …: the input was refused; `errors` names the fields
├── ConflictError                409: the name is taken, the same call is still running, or it was changed meanwhile
├── RateLimitError               429: too many calls; wait `retry_after` seconds
├── ServerError                  5xx, or a response that breaks the contract (`bad_response`)
│   └── UnsupportedOperationError   501, or not sent: this server does not offer the operation; `feature`
├── NetworkError                 no complete response: refused, reset, cut off
│   ├── TimeoutError             no complete response in time (also the built-in TimeoutError)
│   └── CircuitOpenError         not sent: the last attempts all failed
└── WebSocketError               the live connection was refused, has ended, or is not open
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
    """One refused field of the input, and the reason."""

    field: str
    message: str


class ChatError(Exception):
    """Base of all errors of the SDK. Holds no credential and no response body.

    *status* is the HTTP status, None without a response. *code* is the contract's stable snake_case name of
    the problem. *request_id* finds the request in the server's log. *retry_after* is in seconds. *errors*
    names the refused fields.
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
        """The error in one sentence."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep all attributes through pickle and copy, which would drop keyword-only arguments."""
        return _rebuild, (type(self), self.message, dict(self.__dict__))

    def __repr__(self) -> str:
        attributes = [
            f"{name}={value!r}"
            for name in ("status", "code", "request_id", "retry_after")
            if (value := getattr(self, name)) is not None
        ]
        return f"{type(self).__name__}({', '.join([repr(self.message), *attributes])})"


def _rebuild(kind: type[ChatError], message: str, attributes: dict[str, Any]) -> ChatError:
    error = kind(message)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(ChatError, ValueError):
    """The client was built or used wrongly; nothing was sent."""


class AuthenticationError(ChatError):
    """The API key or the token is missing, wrong, or not allowed to do this (401, 403)."""


class NotFoundError(ChatError):
    """It does not exist, or this caller may not see it (404)."""


class ValidationError(ChatError):
    """The input was refused, by the server or before anything was sent; `errors` names the fields."""


class ConflictError(ChatError):
    """The name is taken, the same call is still running, or the object was changed meanwhile (409).

    *rev*: of the message as it is now, for `changed`; None for other codes.
    """

    rev: int | None = None


class RateLimitError(ChatError):
    """Too many calls; wait `retry_after` seconds (429)."""


class ServerError(ChatError):
    """The server failed (5xx), or its response breaks the contract (`bad_response`)."""


class UnsupportedOperationError(ServerError):
    """This server does not offer the operation (501).

    *feature*: the name of what it lacks, where known. With the code `unsupported` and no *status*, nothing was sent.
    """

    feature: str | None = None


class NetworkError(ChatError):
    """No complete response: refused, reset, or cut off. A call that is not retried may have taken effect."""


class TimeoutError(NetworkError, builtins.TimeoutError):  # noqa: A001 - the name the README promises
    """No complete response arrived in time."""


class CircuitOpenError(NetworkError):
    """Nothing was sent, because the last attempts all failed; wait `retry_after` seconds."""


class WebSocketError(ChatError):
    """The live connection was refused, has ended and will not reconnect, or is not open."""


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
    """The class for an error *status*, and the code for a response without one."""
    if known := _KINDS.get(status):
        return known
    if 400 <= status < 500:
        return ValidationError, "bad_request"
    return ServerError, "server_error" if status >= 500 else "bad_response"


def from_problem(
    status: int, problem: object, *, request_id: str | None, retry_after: float | None
) -> ChatError:
    """The error for a response with *status*, whose JSON body is *problem* (None if it is not JSON).

    Reads only the contract's fields, each only in its expected shape.
    """
    kind, code = kind_of(status)
    fields: Mapping[str, Any] = problem if isinstance(problem, Mapping) else {}
    if isinstance(value := fields.get("code"), str) and _CODE.fullmatch(value):
        code = value
    if isinstance(value := fields.get("request_id"), str):
        request_id = value
    message = f"The Chat API answered {status} ({code})"
    detail = fields.get("detail") or fields.get("message")
    if isinstance(detail, str):
        message = f"{message}: {_one_line(detail)}"
    error = kind(
        message,
        status=status,
        code=code,
        request_id=_valid_request_id(request_id),
        retry_after=retry_after,
        errors=_field_errors(fields.get("errors")),
    )
    _add_facts(error, fields)
    return error


def _add_facts(error: ChatError, fields: Mapping[str, Any]) -> None:
    """Set what only some errors carry."""
    if isinstance(error, ConflictError) and type(rev := fields.get("rev")) is int:
        error.rev = rev
    feature = fields.get("feature")
    if isinstance(error, UnsupportedOperationError) and isinstance(feature, str):
        error.feature = feature if _CODE.fullmatch(feature) else None


def unsupported(feature: str) -> UnsupportedOperationError:
    """The error for a call that needs a *feature* the server does not have. Nothing was sent."""
    error = UnsupportedOperationError(
        f"The Chat API does not offer this: it has no feature {feature!r}", code="unsupported"
    )
    error.feature = feature
    return error


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= _LONGEST_DETAIL else line[: _LONGEST_DETAIL - 1] + "…"


def _valid_request_id(request_id: str | None) -> str | None:
    return request_id if request_id and _REQUEST_ID.fullmatch(request_id) else None


def _field_errors(items: object) -> tuple[FieldError, ...]:
    if not isinstance(items, list):
        return ()
    return tuple(
        FieldError(_one_line(item["field"]), _one_line(item["message"]))
        for item in items[:50]
        if isinstance(item, Mapping)
        and isinstance(item.get("field"), str)
        and isinstance(item.get("message"), str)
    )


def bad_response(what: str, *, status: int | None, request_id: str | None = None) -> ServerError:
    """The error for a response that breaks the contract. *what* says how, without quoting it."""
    return ServerError(
        f"The Chat API's answer is not what the contract says: {what}",
        status=status,
        code="bad_response",
        request_id=_valid_request_id(request_id),
    )
