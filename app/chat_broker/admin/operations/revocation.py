"""The result of a revocation, as the Chat API reports it."""

import math
from dataclasses import asdict, dataclass

import msgspec

from chat_broker_sdk import ChatUser, RevokeReceipt


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


def revocation_result(receipt: RevokeReceipt | None) -> RevocationResult:
    """The result of an explicit revocation; empty if the Chat API sends none."""
    if receipt is None:
        return RevocationResult()
    took_ms = receipt.took_ms
    return RevocationResult(
        receipt.generation,
        receipt.sockets_closed,
        receipt.nodes_acked,
        receipt.nodes_total,
        round(took_ms) if took_ms is not None and math.isfinite(took_ms) else None,
    )


def suspension_result(user: ChatUser) -> RevocationResult | None:
    """The result that the embedded Chat API adds to the response to a suspension; None from others."""
    receipt = msgspec.json.encode(user.model_extra.get("receipt"))
    try:
        return revocation_result(RevokeReceipt.from_json(receipt))
    except ValueError:
        return None
