"""The result of a revocation, as the Chat API reports it."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from chat_broker_sdk import RevokeReceipt


@dataclass(frozen=True, slots=True)
class RevocationResult:
    """What a revocation did. None for what the Chat API does not report."""

    generation: int | None = None
    sockets_closed: int | None = None
    nodes_acked: int | None = None
    nodes_total: int | None = None
    took_ms: int | None = None

    def to_dict(self) -> dict[str, int | None]:
        """As the admin API shows it."""
        return asdict(self)


class HasExtra(Protocol):
    """A response of the Chat API, with the fields that the SDK's model does not have."""

    @property
    def model_extra(self) -> dict[str, Any]: ...


def revocation_result(receipt: RevokeReceipt | None) -> RevocationResult:
    """The result of an explicit revocation; empty if the Chat API sends none."""
    if receipt is None:
        return RevocationResult()
    return RevocationResult(
        receipt.generation,
        receipt.sockets_closed,
        receipt.nodes_acked,
        receipt.nodes_total,
        _rounded(receipt.took_ms),
    )


def suspension_result(user: HasExtra) -> RevocationResult | None:
    """The result that the embedded Chat API adds to the response to a suspension; None from others."""
    receipt = user.model_extra.get("receipt")
    if not isinstance(receipt, dict):
        return None
    return RevocationResult(
        _whole(receipt.get("generation")),
        _whole(receipt.get("sockets_closed")),
        _whole(receipt.get("nodes_acked")),
        _whole(receipt.get("nodes_total")),
        _rounded(receipt.get("took_ms")),
    )


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _rounded(value: object) -> int | None:
    if isinstance(value, float) and math.isfinite(value):
        return round(value)
    return _whole(value)
