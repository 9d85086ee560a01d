"""The errors that callers get: one class per HTTP status, a stable `code` per reason.

REST sends them as `application/problem+json`, a socket as the acknowledgement `{ok: false, error: {code, message}}`.
Messages contain no secret, no SQL and nothing of another project.
"""

from collections.abc import Sequence

from chat_broker_kit.http.problems import FieldError


class ChatError(Exception):
    """Base of the errors that callers get."""

    status = 500
    code = "internal_error"
    message = "Something went wrong on the server."

    def __init__(
        self,
        code: str | None = None,
        message: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        retry_after: int | None = None,
    ) -> None:
        self.code = code or type(self).code
        self.message = message or type(self).message
        self.errors = tuple(errors)
        self.retry_after = retry_after
        super().__init__(f"{self.code}: {self.message}")


class BadInput(ChatError):  # noqa: N818 – named for what happened, like its siblings
    """400: the input breaks the contract; `errors` names the fields."""

    status = 400
    code = "invalid_input"
    message = "The input is not valid."

    @classmethod
    def field(cls, field: str, message: str) -> "BadInput":
        return cls(message=f"{field}: {message}", errors=[FieldError(field, message)])

    @classmethod
    def fields(cls, errors: Sequence[FieldError]) -> "BadInput":
        """An error for several fields; the message names them all."""
        text = "; ".join(f"{error.field}: {error.message}" for error in errors)
        return cls(message=text, errors=errors)


class NotAuthenticated(ChatError):  # noqa: N818
    """401: no credential or an invalid one. The code tells whether a new token helps."""

    status = 401
    code = "authentication_required"
    message = "An API key or a chat token is needed."


class Forbidden(ChatError):  # noqa: N818
    """403: the credential is valid but does not allow this."""

    status = 403
    code = "forbidden"
    message = "This credential may not do that."


class NotFound(ChatError):  # noqa: N818
    """404: it does not exist, or the caller may not know that it exists."""

    status = 404
    code = "not_found"
    message = "There is nothing here."

    @classmethod
    def project(cls) -> "NotFound":
        return cls("project_not_found", "There is no such project.")

    @classmethod
    def user(cls) -> "NotFound":
        return cls("user_not_found", "There is no such user.")

    @classmethod
    def named_user(cls, field: str, user_id: str) -> "NotFound":
        """For one of several users: *field* is where the request names them."""
        errors = [FieldError(field, "is no user")]
        return cls("user_not_found", f"There is no user {user_id}.", errors=errors)

    @classmethod
    def room(cls) -> "NotFound":
        return cls("room_not_found", "There is no such room.")

    @classmethod
    def member(cls) -> "NotFound":
        return cls("member_not_found", "This user is not a member of the room.")

    @classmethod
    def the_message(cls) -> "NotFound":
        return cls("message_not_found", "There is no such message.")


class MethodNotAllowed(ChatError):  # noqa: N818
    """405: the path has no such method; `allow` lists those it has."""

    status = 405
    code = "method_not_allowed"
    message = "This path does not answer to that method."

    def __init__(self, allow: str) -> None:
        super().__init__()
        self.allow = allow


class SlowBody(ChatError):  # noqa: N818
    """408: the body did not arrive within the time limit."""

    status = 408
    code = "request_timeout"
    message = "The request body did not arrive in time."


class Conflict(ChatError):  # noqa: N818
    """409: the name is taken, or the first request with this Idempotency-Key is still running."""

    status = 409
    code = "conflict"
    message = "That conflicts with what exists."


class Changed(Conflict):
    """409: the object has changed since the caller read it; `rev` is its present one."""

    code = "changed"
    message = "The message has changed since: read it again."

    def __init__(self, rev: int) -> None:
        super().__init__()
        self.rev = rev


class TooLarge(ChatError):  # noqa: N818
    """413: the body is over the limit; reading stopped there."""

    status = 413
    code = "body_too_large"
    message = "The request body is over 64 KiB."


class UnsupportedMediaType(ChatError):  # noqa: N818
    """415: the body is not declared as JSON in UTF-8."""

    status = 415
    code = "unsupported_media_type"
    message = "The request body must be application/json in UTF-8."


class IdempotencyKeyReused(ChatError):  # noqa: N818
    """422: the Idempotency-Key was used with another body."""

    status = 422
    code = "idempotency_key_reused"
    message = "This Idempotency-Key was used before with a different body."


class TooManyRequests(ChatError):  # noqa: N818
    """429: wait `retry_after` seconds."""

    status = 429
    code = "slow_down"
    message = "Too many connections from this address. Connect again after Retry-After."


class HeadersTooLarge(ChatError):  # noqa: N818
    """431: more header bytes or lines than the limit."""

    status = 431
    code = "headers_too_large"
    message = "The request headers are over 32 KiB or 100 lines."


class Unavailable(ChatError):  # noqa: N818
    """503: the database cannot answer or write now. Nothing was changed, so the caller may retry."""

    status = 503
    code = "unavailable"
    message = "The server cannot do this right now. Try again shortly."

    def __init__(
        self, code: str | None = None, message: str | None = None, *, retry_after: int = 1
    ) -> None:
        super().__init__(code, message, retry_after=retry_after)
