"""`token inspect`: what a chat token says, and whether it would be accepted."""

import base64
import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from chat_broker.cli.admin.options import REFUSED, UNREACHABLE, AsJson, fields, safe, say, show

if TYPE_CHECKING:
    from chat_broker.cli.admin.client import AdminClient

token = typer.Typer(name="token", help="Chat tokens.", no_args_is_help=True)


@token.callback()
def token_here() -> None:
    """Chat tokens."""


@token.command("inspect")
def inspect_token(as_json: AsJson = False) -> None:
    """Read a chat JWT on standard input: its claims, and whether it would be accepted now and why not.

    Asks the broker that CHAT_BROKER_URL names. Exit code 1 if it would not be accepted, 3 if nobody
    can say.
    """
    # The HTTP client is loaded by commands that ask something.
    from chat_broker.cli.admin.client import DEFAULT_URL, AdminClient

    text = sys.stdin.read(16_385).strip()
    text = text[7:].strip() if text[:7].lower() == "bearer " else text
    header, claims = _part(text, 0), _part(text, 1)
    with AdminClient(os.environ.get("CHAT_BROKER_URL") or DEFAULT_URL, None) as broker:
        accepted, code, reason = _judged(broker, text, header, claims)
    told = {
        "accepted": accepted,
        "code": code,
        "reason": reason,
        "header": header,
        "claims": claims,
    }

    def display() -> None:
        verdict = {
            True: "[green]accepted[/]",
            False: "[bold red]not accepted[/]",
            None: "[yellow]unknown[/]",
        }
        say(f"{verdict[accepted]}: {safe(reason)}")
        if claims is not None:
            fields(_readable(claims))

    show(told, as_json, display)
    if accepted is not True:
        raise typer.Exit(REFUSED if accepted is False else UNREACHABLE)


def _judged(
    broker: "AdminClient", text: str, header: Any, claims: Any
) -> tuple[bool | None, str | None, str]:
    # The HTTP client is loaded by commands that ask something.
    from chat_broker.cli.admin.client import Problem, Unreachable

    if header is None or claims is None or len(text.split(".")) != 3:
        return False, "token_invalid", "this is not a JWT"
    try:
        told = broker.verify(text)
    except Unreachable as error:
        ends = claims.get("exp")
        if isinstance(ends, int) and ends + 30 <= time.time():
            return False, "token_expired", "it has expired"
        return None, None, f"nobody could be asked: {error}"
    except Problem as error:
        if error.status == 401:
            return False, error.code, error.message
        return None, error.code, f"the broker cannot say: {error.message}"
    return True, None, f"good until {told.get('expires_at')}"


def _part(token_text: str, index: int) -> dict[str, Any] | None:
    parts = token_text.split(".")
    if len(parts) <= index:
        return None
    try:
        raw = base64.urlsafe_b64decode(parts[index] + "=" * (-len(parts[index]) % 4))
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _readable(claims: Mapping[str, Any]) -> dict[str, Any]:
    """Instants as people read them."""
    shown = dict(claims)
    for name in ("iat", "exp", "nbf"):
        moment = claims.get(name)
        if isinstance(moment, int) and 0 <= moment < 253402300800:
            shown[name] = f"{moment} ({datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ})"
    return shown
