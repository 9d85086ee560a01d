"""`token inspect`: the claims of a chat token, and whether the broker accepts it."""

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
    """Read a chat JWT on standard input: show its claims, and whether the broker accepts it.

    Asks the broker that CHAT_BROKER_URL names. Exit code 1 if it refuses the token, 3 if it cannot tell.
    """
    from chat_broker.cli.admin.client import DEFAULT_URL, AdminClient  # it loads httpx

    text = sys.stdin.read(16_385).strip()
    text = text[7:].strip() if text[:7].lower() == "bearer " else text
    header, claims = _part(text, 0), _part(text, 1)
    with AdminClient(os.environ.get("CHAT_BROKER_URL") or DEFAULT_URL, None) as broker:
        accepted, code, reason = _check(broker, text, header, claims)
    result = {
        "accepted": accepted,
        "code": code,
        "reason": reason,
        "header": header,
        "claims": claims,
    }

    def display() -> None:
        outcome = {
            True: "[green]accepted[/]",
            False: "[bold red]not accepted[/]",
            None: "[yellow]unknown[/]",
        }
        say(f"{outcome[accepted]}: {safe(reason)}")
        if claims is not None:
            fields(_readable(claims))

    show(result, as_json, display)
    if accepted is not True:
        raise typer.Exit(REFUSED if accepted is False else UNREACHABLE)


def _check(
    broker: "AdminClient", text: str, header: Any, claims: Any
) -> tuple[bool | None, str | None, str]:
    from chat_broker.cli.admin.client import Problem, Unreachable  # it loads httpx

    if header is None or claims is None or len(text.split(".")) != 3:
        return False, "token_invalid", "this is not a JWT"
    try:
        info = broker.verify(text)
    except Unreachable as error:
        expires_at = claims.get("exp")
        if isinstance(expires_at, int) and expires_at + 30 <= time.time():
            return False, "token_expired", "it has expired"
        return None, None, f"the broker cannot be asked: {error}"
    except Problem as error:
        if error.status == 401:
            return False, error.code, error.message
        return None, error.code, f"the broker cannot say: {error.message}"
    return True, None, f"good until {info.get('expires_at')}"


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
    """*claims* with times readable beside their numbers."""
    shown = dict(claims)
    for name in ("iat", "exp", "nbf"):
        moment = claims.get(name)
        if isinstance(moment, int) and 0 <= moment < 253402300800:
            shown[name] = f"{moment} ({datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ})"
    return shown
