# ruff: noqa: N818 - classes are named for what is answered
"""What can go wrong for a caller, and the one table that says what the answer is.

BrokerError                 500  base: nothing of what happened is told
├── BadInput                400  `errors` names the fields
├── NotSignedIn             401  sign in to the app again
├── Refused                 403  stop
├── NotFound                404  missing, or none of the caller's business
├── MethodNotAllowed        405
├── SlowBody                408
├── Conflict                409
├── TooLarge                413
├── UnsupportedMediaType    415
├── IdempotencyKeyReused    422
├── TooManyRequests         429  wait `Retry-After`
├── HeadersTooLarge         431
├── ClientGone              499  in log and metrics alone
├── NotSupported            501  the configured Chat API cannot do this
├── BadUpstream             502  the Chat API answered nonsense, an error of its own, or refused our key
├── Unavailable             503  something we need cannot be reached: wait `Retry-After`
└── TooSlow                 504

Framework-free: the rules raise these, `main` and `middleware` send what `problem` writes.
"""

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

import chat_broker_sdk

PROBLEM_JSON = "application/problem+json"

SHORTEST_WAIT, LONGEST_WAIT, USUAL_WAIT = 1, 60, 5
"""Seconds in `Retry-After`: of what an upstream says, and where it says nothing sensible."""


class FieldError(msgspec.Struct, frozen=True):
    """One thing to mend in the input."""

    field: str
    message: str


class BrokerError(Exception):
    """Base of everything that is answered to a caller. The text is ours, and holds nothing of an upstream's."""

    status = 500
    code = "internal_error"
    message = "Something went wrong here. The request id finds it in our log."
    reason: str | None = None
    """What the log says beside the code, and the caller is not told."""

    def __init__(
        self,
        code: str | None = None,
        message: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.code = code or type(self).code
        self.message = message or type(self).message
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        super().__init__(f"{self.code}: {self.message}")


class BadInput(BrokerError):
    """The request is not what the contract says."""

    status = 400
    code = "invalid_input"
    message = "The request is not valid."

    @classmethod
    def field(cls, field: str, message: str, *, code: str | None = None) -> "BadInput":
        """One field is wrong, for one reason."""
        return cls(code, f"{field}: {message}", errors=[FieldError(field, message)])


class NotSignedIn(BrokerError):
    """No credential, or a bad one."""

    status = 401
    code = "authentication_required"
    message = "Sign in to the app first."

    def __init__(
        self,
        code: str | None = None,
        message: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, message, errors=errors, headers=headers)
        challenge = 'Bearer realm="chat"'
        if self.code != "authentication_required":
            challenge += ', error="invalid_token"'
        self.headers.setdefault("WWW-Authenticate", challenge)


class Refused(BrokerError):
    """The caller is known, and may not."""

    status = 403
    code = "forbidden"
    message = "You may not do that."


class NotFound(BrokerError):
    """It does not exist, or is none of the caller's business: the same answer."""

    status = 404
    code = "not_found"
    message = "There is nothing here."


class MethodNotAllowed(BrokerError):
    """The path exists, the method does not."""

    status = 405
    code = "method_not_allowed"
    message = "This path does not answer to that method."


class SlowBody(BrokerError):
    """The body did not come in time."""

    status = 408
    code = "request_timeout"
    message = "The request body did not arrive in time."


class Conflict(BrokerError):
    """Something with that name, or that very call, exists already."""

    status = 409
    code = "conflict"
    message = "That conflicts with what exists."


class TooLarge(BrokerError):
    """More bytes than the limit; reading stopped there."""

    status = 413
    code = "body_too_large"
    message = "The request body is over 64 KiB."


class UnsupportedMediaType(BrokerError):
    """The body is not declared as JSON in UTF-8."""

    status = 415
    code = "unsupported_media_type"
    message = "The request body must be application/json in UTF-8."


class IdempotencyKeyReused(BrokerError):
    """The key was used before, with another body."""

    status = 422
    code = "idempotency_key_reused"
    message = "This Idempotency-Key was used before with a different body."


class TooManyRequests(BrokerError):
    """Somebody used up a limit."""

    status = 429
    code = "rate_limited"
    message = "Too many requests. Wait as long as Retry-After says."


class HeadersTooLarge(BrokerError):
    """More header bytes or lines than the limit."""

    status = 431
    code = "headers_too_large"
    message = "The request headers are over 32 KiB or 100 lines."


class ClientGone(BrokerError):
    """Whoever asked has hung up before the whole request was here."""

    status = 499
    code = "client_gone"
    message = "The request ended before its body did."


class NotSupported(BrokerError):
    """The configured Chat API does not offer it."""

    status = 501
    code = "not_supported"
    message = "The configured Chat API cannot do this."


class BadUpstream(BrokerError):
    """The Chat API answered nonsense or an error of its own, or refused our key."""

    status = 502
    code = "upstream_error"
    message = "The Chat API gave an answer that cannot be used."


class Unavailable(BrokerError):
    """Something the broker needs cannot be reached."""

    status = 503
    code = "unavailable"
    message = "This cannot be done right now. Wait as long as Retry-After says."

    def __init__(
        self,
        code: str | None = None,
        message: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message, errors=errors, headers=headers)
        self.headers.setdefault("Retry-After", str(seconds_to_wait(retry_after)))


class TooSlow(BrokerError):
    """The answer did not come in time."""

    status = 504
    code = "upstream_timeout"
    message = "The Chat API did not answer in time."


def seconds_to_wait(told: float | None) -> int:
    """*told* as a `Retry-After`: 1 to 60 whole seconds, 5 if it makes no sense."""
    if told is None or not math.isfinite(told) or told < 0:
        return USUAL_WAIT
    return min(max(math.ceil(told), SHORTEST_WAIT), LONGEST_WAIT)


def no_chat_token() -> NotSignedIn:
    """What was sent to be verified is not a chat token."""
    return NotSignedIn("token_invalid", "This is not a chat token.")


def room_not_found() -> NotFound:
    """The one answer for a room that is missing or not the caller's."""
    return NotFound("room_not_found", "There is no such room.")


def user_not_found() -> NotFound:
    """The one answer for a user who is not there."""
    return NotFound("user_not_found", "There is no such user.")


def message_not_found() -> NotFound:
    """The one answer for a message that is not there."""
    return NotFound("message_not_found", "There is no such message.")


def user_suspended() -> Refused:
    """The answer to somebody who is banned or suspended."""
    return Refused("user_suspended", "This account may not chat at the moment.")


def user_deleted() -> Refused:
    """The answer to somebody whose chat user was deleted."""
    return Refused("user_deleted", "The chat account of this user was deleted.")


def from_chat(error: chat_broker_sdk.ChatError) -> BrokerError:
    """What a failed call of the Chat API means to the caller. Its own words go nowhere."""
    match error:
        case chat_broker_sdk.CircuitOpenError():
            return Unavailable("upstream_unavailable", retry_after=error.retry_after)
        case chat_broker_sdk.TimeoutError():
            return TooSlow()
        case chat_broker_sdk.NetworkError(code="connections_in_use"):
            return Unavailable("upstream_unavailable")
        case chat_broker_sdk.NetworkError():
            return Unavailable("upstream_unreachable")
        case chat_broker_sdk.UnsupportedOperationError():
            return NotSupported()
        case chat_broker_sdk.ServerError(status=503, code=code) if code != "bad_response":
            return Unavailable("upstream_unavailable", retry_after=error.retry_after)
        case chat_broker_sdk.ServerError(status=504, code=code) if code != "bad_response":
            return TooSlow()
        case chat_broker_sdk.RateLimitError():
            wait = str(seconds_to_wait(error.retry_after))
            return TooManyRequests(headers={"Retry-After": wait})
        case chat_broker_sdk.AuthenticationError():
            return _refused(error)
        case chat_broker_sdk.NotFoundError():
            return _missing(error)
        case chat_broker_sdk.ConflictError(code="idempotency_in_progress"):
            return Conflict(
                "idempotency_in_progress",
                "The first call with this Idempotency-Key is still running.",
            )
        case chat_broker_sdk.ConflictError(code="message_deleted"):
            return Conflict("message_deleted", "This message was deleted.")
        case chat_broker_sdk.ConflictError():
            return Conflict()
        case chat_broker_sdk.ValidationError(code="idempotency_key_reused"):
            return IdempotencyKeyReused()
        case chat_broker_sdk.ValidationError(status=413):
            return TooLarge()
        case chat_broker_sdk.ValidationError(status=400 | 422):
            return BadInput(message="The Chat API does not accept this input.")
    return BadUpstream()


def _refused(error: chat_broker_sdk.AuthenticationError) -> BrokerError:
    """A 401 or 403 is about our key, and so our fault, unless its code says that it is about the user."""
    if error.status == 403:
        match error.code:
            case "user_suspended":
                return user_suspended()
            case "user_deleted":
                return user_deleted()
            case "not_a_member":
                return room_not_found()
    return BadUpstream(
        "upstream_refused", "The Chat API refuses the broker. An operator must mend that."
    )


def _missing(error: chat_broker_sdk.NotFoundError) -> BrokerError:
    match error.code:
        case "user_not_found" | "member_not_found":
            return user_not_found()
        case "message_not_found":
            return message_not_found()
        case "project_not_found":
            return BadUpstream()
    return room_not_found() if error.code == "room_not_found" else NotFound()


def as_broker_error(error: BaseException) -> BrokerError:
    """*error* as what is answered: itself, its translation, or the 500 that tells nothing."""
    if isinstance(error, BrokerError):
        return error
    if isinstance(error, chat_broker_sdk.ChatError):
        return from_chat(error)
    return BrokerError()


_encode = msgspec.json.Encoder().encode


def problem(error: BrokerError, *, request_id: str, instance: str) -> bytes:
    """The body of the answer (RFC 9457). *instance* is the path without its query."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": "Client Closed Request"
        if error.status == 499
        else HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.message,
        "instance": instance,
        "code": error.code,
        "message": error.message,
        "request_id": request_id,
    }
    if error.errors:
        body["errors"] = error.errors
    return _encode(body)
