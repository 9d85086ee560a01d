"""Access of operators: verifies the key and its scope, and writes one audit record per request."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from starlette.requests import ClientDisconnect

from chat_broker.admin.audit_log import (
    OUTCOME_UNKNOWN,
    AuditRecord,
    Outcome,
    new_id,
    scrub,
    scrub_prose,
    scrubbed,
)
from chat_broker.admin.audit_writer import AuditTrail, ended
from chat_broker.admin.keys import AdminKeys, AdminScope, Operator
from chat_broker.admission.gate import address_of
from chat_broker.admission.rate_limits import Limiter
from chat_broker.chat.ports import StateUnavailable
from chat_broker.errors import (
    BadInput,
    BrokerError,
    ClientGone,
    NotSignedIn,
    Refused,
    Unavailable,
    as_broker_error,
)
from chat_broker_kit.text.timestamps import format_timestamp
from chat_broker_sdk import ChatUser

log = structlog.get_logger(__name__)

CHALLENGE = 'Bearer realm="admin"'


@dataclass(slots=True)
class AuditContext:
    """What the audit record of one request will say. Routes add subject, reason and detail."""

    operator: Operator
    subject: str | None = None
    reason: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    def about_user(self, user: ChatUser) -> None:
        """Record both ids of the user. The subject stays as the request names it."""
        self.subject = self.subject or user.id
        self.detail["user_id"] = user.id
        if user.external_user_id is not None:
            self.detail["external_user_id"] = user.external_user_id


Handle = Callable[[AuditContext], Awaitable[Any]]


class AdminAccess:
    """Admits operators and records their requests. Raises BrokerError.

    Fails closed: a request that cannot be recorded is refused. A request that changes data is recorded
    as pending before it is carried out.
    """

    def __init__(self, keys: AdminKeys, trail: AuditTrail, limiter: Limiter) -> None:
        self._keys = keys
        self._trail = trail
        self._limiter = limiter

    async def serve(
        self,
        scope: Mapping[str, Any],
        needed: AdminScope,
        action: str,
        handle: Handle,
    ) -> Any:
        """The response of *handle*, called if the request's key has the scope *needed*."""
        try:
            operator = await self._operator(scope)
            record, context = _begin(scope, operator, action)
            if needed not in operator.scopes:
                await self._trail.record(ended(record, "refused", code="scope_missing"))
                raise Refused("scope_missing", f"This key lacks the scope {needed}.")
            if scope["method"] == "GET":
                return await self._read(record, context, handle)
            return await self._change(record, context, handle)
        except StateUnavailable as error:
            log.warning("admin.state_unavailable", error=str(error))
            raise Unavailable("state_unavailable") from None

    async def _read(self, record: AuditRecord, context: AuditContext, handle: Handle) -> Any:
        """Record the request before its response is sent."""
        try:
            response = await handle(context)
        except Exception as error:
            await self._trail.record(_failed(_filled(record, context), error))
            raise
        await self._trail.record(_filled(record, context))
        return response

    async def _change(self, record: AuditRecord, context: AuditContext, handle: Handle) -> Any:
        """Record the request as pending before it is carried out, and its outcome afterwards."""
        await self._trail.begin(record)
        try:
            response = await handle(context)
        except asyncio.CancelledError:
            cancelled = ended(_filled(record, context), "failed", code="timeout")
            cancelled.detail["note"] = OUTCOME_UNKNOWN
            await self._trail.finish(cancelled)
            raise
        except Exception as error:
            await self._trail.finish(_failed(_filled(record, context), error))
            raise
        await self._trail.finish(_filled(record, context))
        return response

    async def _operator(self, scope: Mapping[str, Any]) -> Operator:
        """The holder of the request's key. A valid key passes however many wrong ones its address sent."""
        presented = _presented(scope["headers"])
        operator = await self._keys.owner(presented or b"")
        if operator is not None and presented is not None:
            return operator
        address = address_of(scope)
        await self._trail.unknown_key(address=address, request_id=str(scope["state"]["request_id"]))
        await self._limiter.failed_admin(address)
        headers = {"WWW-Authenticate": CHALLENGE}
        if presented is None:
            text = "Send an admin key: Authorization: Bearer …"
            raise NotSignedIn("authentication_required", text, headers=headers)
        raise NotSignedIn("invalid_admin_key", "This is not an admin key.", headers=headers)


def _begin(
    scope: Mapping[str, Any], operator: Operator, action: str
) -> tuple[AuditRecord, AuditContext]:
    """The record of a request that has just arrived, and the context that its route will fill."""
    subject = next(iter(scope.get("path_params", {}).values()), None)
    record = AuditRecord(
        id=new_id(),
        at=format_timestamp(),
        actor=operator.id,
        action=action,
        subject=None if subject is None else scrub(str(subject)),
        outcome="ok",
        reason=None,
        ip=scrub(address_of(scope))[:64],
        request_id=str(scope["state"]["request_id"]),
        detail={"key_name": scrub(operator.name)},
    )
    return record, AuditContext(operator, subject)


def _presented(headers: Any) -> bytes | None:
    """The bearer token of the only `Authorization` header, as bytes: it may not be text."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1:
        return None
    scheme, _, key = values[0].partition(b" ")
    return key.strip() or None if scheme.lower() == b"bearer" else None


def _filled(record: AuditRecord, context: AuditContext) -> AuditRecord:
    """*record* with what the route has added to *context*, credentials hidden."""
    return replace(
        record,
        subject=None if context.subject is None else scrub(str(context.subject)),
        reason=None if context.reason is None else scrub_prose(context.reason),
        detail=record.detail | scrubbed(context.detail),
    )


def _failed(record: AuditRecord, error: Exception) -> AuditRecord:
    """*record* as refused for an error of the client's (4xx), as failed for any other."""
    if isinstance(error, StateUnavailable):
        return ended(record, "failed", code="state_unavailable")
    problem: BrokerError = as_broker_error(error)
    if type(error).__name__ == "RequestValidationError":
        problem = BadInput()
    if isinstance(error, ClientDisconnect):
        problem = ClientGone()
    outcome: Outcome = "refused" if problem.status < 500 else "failed"
    return ended(record, outcome, code=problem.code)
