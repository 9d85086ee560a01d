# ruff: noqa: N818 - classes are named for what is answered
"""The errors that callers receive, each with its status, code and text.

No web framework here: rules raise these errors, `application` and `http.edge` send what `problem` writes.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import chat_broker_sdk
from chat_broker_kit.http.problems import FieldError, problem_document

SHORTEST_WAIT, LONGEST_WAIT, USUAL_WAIT = 1, 60, 5
"""Seconds in `Retry-After`: the bounds of an upstream's own value, and the value without a usable one."""


class BrokerError(Exception):
    """Base of every error that a caller receives. Its text is the broker's own, never an upstream's."""

    status = 500
    code = "internal_error"
    message = "Something went wrong here. The request id finds it in our log."
    reason: str | None = None
    """Detail for the log. The caller does not receive it."""
    facts: Mapping[str, Any] = {}
    """Further members of the problem document."""

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
    """The request breaks the contract of its route."""

    status = 400
    code = "invalid_input"
    message = "The request is not valid."

    @classmethod
    def field(cls, field: str, message: str, *, code: str | None = None) -> "BadInput":
        """One field is wrong, for one reason."""
        return cls(code, f"{field}: {message}", errors=[FieldError(field, message)])


class NotSignedIn(BrokerError):
    """The request has no credential, or an invalid one."""

    status = 401
    code = "authentication_required"
    message = "Sign in to the app first."

    def __init__(
        self,
        code: str | None = None,
        message: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, message, headers=headers)
        challenge = 'Bearer realm="chat"'
        if self.code != "authentication_required":
            challenge += ', error="invalid_token"'
        self.headers.setdefault("WWW-Authenticate", challenge)


class Refused(BrokerError):
    """The caller is known, but not allowed to do this."""

    status = 403
    code = "forbidden"
    message = "You may not do that."


class NotFound(BrokerError):
    """It does not exist, or the caller may not know that it does: both get one answer."""

    status = 404
    code = "not_found"
    message = "There is nothing here."


class MethodNotAllowed(BrokerError):
    """The path has routes, but none for this method."""

    status = 405
    code = "method_not_allowed"
    message = "This path does not answer to that method."


class SlowBody(BrokerError):
    """The body was incomplete when the request's deadline passed."""

    status = 408
    code = "request_timeout"
    message = "The request body did not arrive in time."


class Conflict(BrokerError):
    """The name is taken, or the first of two identical calls is still running."""

    status = 409
    code = "conflict"
    message = "That conflicts with what exists."


class TooLarge(BrokerError):
    """The body exceeds the limit; the rest was not read."""

    status = 413
    code = "body_too_large"
    message = "The request body is over 64 KiB."


class UnsupportedMediaType(BrokerError):
    """The body is not declared as JSON in UTF-8."""

    status = 415
    code = "unsupported_media_type"
    message = "The request body must be application/json in UTF-8."


class IdempotencyKeyReused(BrokerError):
    """The `Idempotency-Key` belongs to an earlier call with another body."""

    status = 422
    code = "idempotency_key_reused"
    message = "This Idempotency-Key was used before with a different body."


class TooManyRequests(BrokerError):
    """The caller or their address has used up a rate limit."""

    status = 429
    code = "rate_limited"
    message = "Too many requests. Wait as long as Retry-After says."


class HeadersTooLarge(BrokerError):
    """The headers exceed the limit of bytes or lines."""

    status = 431
    code = "headers_too_large"
    message = "The request headers are over 32 KiB or 100 lines."


class ClientGone(BrokerError):
    """The client closed the connection before the request was complete. Log and metrics show it."""

    status = 499
    code = "client_gone"
    message = "The request ended before its body did."


class NotSupported(BrokerError):
    """The configured Chat API has no such operation."""

    status = 501
    code = "not_supported"
    message = "The configured Chat API cannot do this."


class BadUpstream(BrokerError):
    """The Chat API sent an unusable response or an internal error, or refused the broker's key."""

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
        retry_after: float | None = None,
    ) -> None:
        wait = str(seconds_to_wait(retry_after))
        super().__init__(code, message, headers={"Retry-After": wait})


class TooSlow(BrokerError):
    """The request's deadline passed, or the Chat API's timeout."""

    status = 504
    code = "upstream_timeout"
    message = "The Chat API did not answer in time."


def seconds_to_wait(retry_after: float | None) -> int:
    """*retry_after* in whole seconds, from 1 to 60; 5 if it is missing, negative or not finite."""
    if retry_after is None or not math.isfinite(retry_after) or retry_after < 0:
        return USUAL_WAIT
    return min(max(math.ceil(retry_after), SHORTEST_WAIT), LONGEST_WAIT)


def no_chat_token() -> NotSignedIn:
    """For a token that cannot be a chat token."""
    return NotSignedIn("token_invalid", "This is not a chat token.")


def room_not_found() -> NotFound:
    """For a room that is missing, or that the caller may not see."""
    return NotFound("room_not_found", "There is no such room.")


def user_not_found() -> NotFound:
    return NotFound("user_not_found", "There is no such user.")


def named_user_not_found(field: str, name: str) -> NotFound:
    """For one of several users, as the caller named them in *field*."""
    errors = [FieldError(field, "is no user")]
    return NotFound("user_not_found", f"There is no user {name}.", errors=errors)


_DIRECT_ROOM = "The members of a direct room stay as they are. Hide it with `archived`."


def direct_room() -> Conflict:
    return Conflict("direct_room", _DIRECT_ROOM)


def message_not_found() -> NotFound:
    return NotFound("message_not_found", "There is no such message.")


def user_suspended() -> Refused:
    """For a caller who is banned, or whose chat user is suspended."""
    return Refused("user_suspended", "This account may not chat at the moment.")


def user_deleted() -> Refused:
    return Refused("user_deleted", "The chat account of this user was deleted.")


def directory_off() -> Refused:
    return Refused("directory_off", "This service has no directory of users.")


def receipts_off() -> Refused:
    return Refused(
        "receipts_off",
        "There are no receipts here: the room is too large for them, or your setting `receipts` is off.",
    )


def blocked() -> Refused:
    """For a direct room of which one user blocks another. It does not tell who blocks whom."""
    return Refused("blocked", "One of the users of this direct room blocks another.")


def owner_only() -> Refused:
    return Refused("owner_only", "Your role in this room does not allow this: only its owner may.")


def read_only() -> Refused:
    return Refused("read_only", "You only read in this room: its owner decides who posts.")


def too_late() -> Refused:
    return Refused("too_late", "The time in which this message could be edited is over.")


def not_mentionable(fields: Sequence[str]) -> BadInput:
    """For mentions of users who are no members of the room. *fields*: their places, such as `mentions[0]`."""
    text = "is not a member of the room"
    errors = [FieldError(field, text) for field in fields]
    return BadInput(message=f"{fields[0]}: {text}", errors=errors)


def everybody_by_moderators() -> Refused:
    """For a member who may not mention everybody in a large room."""
    return Refused("owner_only", "In this room only owners and moderators may mention everybody.")


def unsupported(feature: str) -> NotSupported:
    """The optional *feature* is not offered here."""
    error = NotSupported("unsupported", f"The feature {feature} is not offered here.")
    error.facts = {"feature": feature}
    return error


def _changed(rev: int | None) -> Conflict:
    error = Conflict("changed", "The message was changed meanwhile. Read it again.")
    error.facts = {"rev": rev}
    return error


def from_chat(error: chat_broker_sdk.ChatError) -> BrokerError:
    """The answer to a request whose call of the Chat API failed. It repeats nothing that the Chat API said."""
    for kind in type(error).__mro__:
        if (answer := _FROM_CHAT.get(kind)) is not None:
            return answer(error)
    return BadUpstream()


def _from_network(error: chat_broker_sdk.NetworkError) -> BrokerError:
    if error.code == "connections_in_use":
        return Unavailable("upstream_unavailable")
    return Unavailable("upstream_unreachable")


def _from_server(error: chat_broker_sdk.ServerError) -> BrokerError:
    if error.code == "bad_response":  # whatever its status says
        return BadUpstream()
    if error.status == 503:
        return Unavailable("upstream_unavailable", retry_after=error.retry_after)
    return TooSlow() if error.status == 504 else BadUpstream()


def _from_refusal(error: chat_broker_sdk.AuthenticationError) -> BrokerError:
    """A 401 or 403 concerns the broker's key, which is no fault of the caller's; some codes concern the user."""
    answer = _ABOUT_THE_USER.get(error.code) if error.status == 403 else None
    if answer is not None:
        return answer()
    text = "The Chat API refuses the broker. An operator must mend that."
    return BadUpstream("upstream_refused", text)


def _from_missing(error: chat_broker_sdk.NotFoundError) -> BrokerError:
    return _MISSING.get(error.code, NotFound)()


def _from_unsupported(error: chat_broker_sdk.UnsupportedOperationError) -> BrokerError:
    return NotSupported() if error.feature is None else unsupported(error.feature)


def _from_conflict(error: chat_broker_sdk.ConflictError) -> BrokerError:
    if error.code == "changed":
        return _changed(error.rev)
    text = _CONFLICTS.get(error.code)
    return Conflict() if text is None else Conflict(error.code, text)


def _from_validation(error: chat_broker_sdk.ValidationError) -> BrokerError:
    if error.code == "idempotency_key_reused":
        return IdempotencyKeyReused()
    if error.status == 413:
        return TooLarge()
    strangers = [each.field for each in error.errors if _MENTION.fullmatch(each.field)]
    if error.status == 400 and strangers:
        return not_mentionable(strangers)
    if error.status in {400, 422}:
        return BadInput(message="The Chat API does not accept this input.")
    return BadUpstream()


_MENTION = re.compile(r"mentions\[[0-9]{1,2}\]")
_FROM_CHAT: dict[type, Callable[[Any], BrokerError]] = {
    chat_broker_sdk.CircuitOpenError: lambda error: Unavailable(
        "upstream_unavailable", retry_after=error.retry_after
    ),
    chat_broker_sdk.TimeoutError: lambda _: TooSlow(),
    chat_broker_sdk.NetworkError: _from_network,
    chat_broker_sdk.UnsupportedOperationError: _from_unsupported,
    chat_broker_sdk.ServerError: _from_server,
    chat_broker_sdk.RateLimitError: lambda error: TooManyRequests(
        headers={"Retry-After": str(seconds_to_wait(error.retry_after))}
    ),
    chat_broker_sdk.AuthenticationError: _from_refusal,
    chat_broker_sdk.NotFoundError: _from_missing,
    chat_broker_sdk.ConflictError: _from_conflict,
    chat_broker_sdk.ValidationError: _from_validation,
}
_ABOUT_THE_USER: dict[str | None, Callable[[], BrokerError]] = {
    "user_suspended": user_suspended,
    "user_deleted": user_deleted,
    "directory_off": directory_off,
    "receipts_off": receipts_off,
    "owner_only": owner_only,
    "read_only": read_only,
    "too_late": too_late,
    "blocked": blocked,
    "not_a_member": room_not_found,
}
_MISSING: dict[str | None, Callable[[], BrokerError]] = {
    "user_not_found": user_not_found,
    "member_not_found": user_not_found,
    "message_not_found": message_not_found,
    "room_not_found": room_not_found,
    "project_not_found": BadUpstream,  # the broker's configuration, not the caller's request
}
_CONFLICTS: dict[str | None, str] = {
    "too_many_blocks": "You block 1,000 users already: unblock one of them first.",
    "idempotency_in_progress": "The first call with this Idempotency-Key is still running.",
    "message_deleted": "This message was deleted.",
    "last_owner": "A room needs an owner: make somebody else the owner first.",
    "not_editable": "A system message cannot be edited.",
    "direct_room": _DIRECT_ROOM,
    "nobody_there": "All others of this direct room are gone: nobody would read this.",
    "too_many_pins": "A room has at most 50 pinned messages: unpin one of them first.",
    "too_many_reactions": "A message takes at most 20 different reactions.",
}


def as_broker_error(error: BaseException) -> BrokerError:
    """The answer to a request that failed with *error*; 500 for an unexpected one."""
    if isinstance(error, BrokerError):
        return error
    if isinstance(error, chat_broker_sdk.ChatError):
        return from_chat(error)
    return BrokerError()


def problem(error: BrokerError, *, request_id: str, instance: str) -> bytes:
    """The body of an error response (RFC 9457). *instance* is the path without its query."""
    return problem_document(
        error.status,
        error.code,
        error.message,
        request_id=request_id,
        instance=instance,
        more={**error.facts, "errors": error.errors} if error.errors else error.facts,
    )
