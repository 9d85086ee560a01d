"""Every call of an operator passes here: whose key, what scope, and one audit record, whatever happens."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from starlette.requests import ClientDisconnect

from chat_broker.admin.audit_log import (
    OUTCOME_UNKNOWN,
    Outcome,
    Record,
    new_id,
    scrub,
    scrub_prose,
    scrubbed,
)
from chat_broker.admin.audit_writer import AuditTrail, ended
from chat_broker.admin.keys import KeyRing, Operator, Scope
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
from chat_broker_kit.text.instants import instant
from chat_broker_sdk import ChatUser

log = structlog.get_logger(__name__)

CHALLENGE = 'Bearer realm="admin"'


@dataclass(slots=True)
class AdminCall:
    """One call: whose it is, and what the audit shall say of it. Routes fill in what they learn."""

    operator: Operator
    subject: str | None = None
    reason: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    def about_user(self, user: ChatUser) -> None:
        """The call is about this user, by whichever name they were called."""
        self.subject = self.subject or user.id
        self.detail["user_id"] = user.id
        if user.external_user_id is not None:
            self.detail["external_user_id"] = user.external_user_id


class AdminGate:
    """Lets operators in, and records what they do. Raises BrokerError.

    A call that cannot be recorded does not happen. A call that changes something is noted down before.
    """

    def __init__(self, keys: KeyRing, trail: AuditTrail, limiter: Limiter) -> None:
        self._keys = keys
        self._trail = trail
        self._limiter = limiter

    async def serve(
        self,
        scope: Mapping[str, Any],
        needed: Scope,
        action: str,
        work: Callable[[AdminCall], Awaitable[Any]],
    ) -> Any:
        """What *work* answers, done for whoever holds the key that came with the request."""
        try:
            return await self._serve(scope, needed, action, work)
        except StateUnavailable as error:
            log.warning("admin.state_unavailable", error=str(error))
            raise Unavailable("state_unavailable") from None

    async def _serve(
        self,
        scope: Mapping[str, Any],
        needed: Scope,
        action: str,
        work: Callable[[AdminCall], Awaitable[Any]],
    ) -> Any:
        operator = await self._operator(scope)
        call = AdminCall(operator)
        call.subject = next(iter(scope.get("path_params", {}).values()), None)
        blank = Record(
            id=new_id(),
            at=instant(),
            actor=operator.id,
            action=action,
            subject=None if call.subject is None else scrub(str(call.subject)),
            outcome="ok",
            reason=None,
            ip=scrub(address_of(scope))[:64],
            request_id=str(scope["state"]["request_id"]),
            detail={"key_name": scrub(operator.name)},
        )
        if needed not in operator.scopes:
            text = f"This key lacks the scope {needed}."
            await self._trail.record(
                replace(blank, outcome="refused", detail=blank.detail | {"code": "scope_missing"})
            )
            raise Refused("scope_missing", text)
        if scope["method"] == "GET":
            return await self._look(blank, call, work)
        return await self._change(blank, call, work)

    async def _look(
        self, blank: Record, call: AdminCall, work: Callable[[AdminCall], Awaitable[Any]]
    ) -> Any:
        """What only looks is recorded before its answer goes out."""
        try:
            answer = await work(call)
        except Exception as error:
            outcome, code = _outcome_of(error)
            await self._trail.record(ended(_filled(blank, call), outcome, code=code))
            raise
        await self._trail.record(_filled(blank, call))
        return answer

    async def _change(
        self, blank: Record, call: AdminCall, work: Callable[[AdminCall], Awaitable[Any]]
    ) -> Any:
        """What changes something is noted down first."""
        await self._trail.begin(blank)
        try:
            answer = await work(call)
        except asyncio.CancelledError:
            given_up = ended(_filled(blank, call), "failed", code="timeout")
            given_up.detail["note"] = OUTCOME_UNKNOWN
            await self._trail.finish(given_up)
            raise
        except Exception as error:
            outcome, code = _outcome_of(error)
            await self._trail.finish(ended(_filled(blank, call), outcome, code=code))
            raise
        await self._trail.finish(_filled(blank, call))
        return answer

    async def _operator(self, scope: Mapping[str, Any]) -> Operator:
        """Whose key it is. The right key is never asked how often a wrong one came from its address."""
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


def _presented(headers: Any) -> bytes | None:
    """The bearer of the one `Authorization` header, as bytes: keys are not text before they are known."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1:
        return None
    scheme, _, key = values[0].partition(b" ")
    return key.strip() or None if scheme.lower() == b"bearer" else None


def _filled(blank: Record, call: AdminCall) -> Record:
    """The record with what the route has learnt; free of credentials."""
    return replace(
        blank,
        subject=None if call.subject is None else scrub(str(call.subject)),
        reason=None if call.reason is None else scrub_prose(call.reason),
        detail=blank.detail | scrubbed(call.detail),
    )


def _outcome_of(error: Exception) -> tuple[Outcome, str]:
    """Refused, if it was the caller's fault; failed, if it was ours or somebody else's."""
    if isinstance(error, StateUnavailable):
        return "failed", "state_unavailable"
    told: BrokerError = as_broker_error(error)
    if type(error).__name__ == "RequestValidationError":
        told = BadInput()
    if isinstance(error, ClientDisconnect):
        told = ClientGone()
    return ("refused" if told.status < 500 else "failed"), told.code
