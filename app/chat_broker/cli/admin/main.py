"""`chat-broker admin …` and `chat-broker token inspect`: the admin routes from a shell.

Exit codes: 0 done; 1 the broker refused it, or what was checked is not sound; 2 wrong usage or
settings; 3 the broker cannot be reached or cannot do it now.
"""

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from chat_broker.cli.admin.audit import audit
from chat_broker.cli.admin.keys import keys
from chat_broker.cli.admin.options import (
    NO_REASON,
    AsJson,
    Reason,
    User,
    busy,
    cell,
    fields,
    flat,
    here,
    safe,
    say,
    show,
    table,
    the_broker,
    until_when,
    wants_json,
)
from chat_broker.cli.admin.rooms import rooms
from chat_broker.cli.admin.token import token
from chat_broker.cli.admin.users import users

__all__ = ["admin", "token"]

admin = typer.Typer(
    name="admin",
    help="The admin routes from a shell. Reads CHAT_BROKER_URL and CHAT_BROKER_ADMIN_KEY.",
    no_args_is_help=True,
)
admin.add_typer(users, name="users")
admin.add_typer(keys, name="keys")
admin.add_typer(audit, name="audit")
admin.add_typer(rooms, name="rooms")


@admin.callback()
def admin_here(as_json: AsJson = False) -> None:
    """The admin routes from a shell. Reads CHAT_BROKER_URL and CHAT_BROKER_ADMIN_KEY."""
    here(as_json)


def _receipt_lines(receipt: Mapping[str, Any]) -> None:
    told = {
        name: receipt.get(name)
        for name in ("generation", "sockets_closed", "nodes_acked", "nodes_total", "took_ms")
    }
    if all(value is None for value in told.values()):
        say("[yellow]The Chat API gave no receipt.[/]")
        return
    acked, total = told["nodes_acked"], told["nodes_total"]
    say(f"generation {cell(told['generation'])}, sockets closed: {cell(told['sockets_closed'])}")
    if acked is not None and total is not None and acked < total:
        say(
            f"[yellow]{acked} of {total} nodes have answered; the others follow within ten seconds.[/]"
        )
    elif acked is not None:
        say(f"[green]all nodes have answered[/] ({acked}) in {cell(told['took_ms'])} ms")


@admin.command()
def revoke(
    user: User,
    reason: Reason = NO_REASON,
    session: Annotated[
        str | None, typer.Option("--session", help="One session (sid) only.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make somebody's tokens worthless and close their sockets."""
    body = {"reason": reason} | ({"session_id": session} if session else {})
    with the_broker() as broker:
        receipt = broker.send("POST", broker.user(user, "revoke"), body)
    show(receipt, as_json, lambda: _receipt_lines(receipt))


@admin.command("revoke-all")
def revoke_all(
    reason: Reason = NO_REASON,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make every token of the project worthless: for a signing key that has leaked."""
    if not yes and sys.stdin.isatty():
        typer.confirm("Every user will be disconnected. Go on?", abort=True)
    with the_broker() as broker, busy("revoking", quiet=wants_json(as_json)):
        receipt = broker.send("POST", "/admin/revoke-all", {"reason": reason}, seconds=60)
    show(receipt, as_json, lambda: _receipt_lines(receipt))


@admin.command()
def ban(
    user: User,
    reason: Reason = NO_REASON,
    until: Annotated[
        str | None,
        typer.Option("--until", help="An instant, or 30m, 12h, 7d; for good if left out."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let somebody in nowhere, and close their sockets."""
    body = {"reason": reason} | ({"until": ends} if (ends := until_when(until)) else {})
    with the_broker() as broker:
        made = broker.send("POST", broker.user(user, "ban"), body)

    def display() -> None:
        ends = made["ban"]["until"]
        say(f"[bold red]banned[/] {safe(user)} " + (f"until {safe(ends)}" if ends else "for good"))
        _receipt_lines(made["receipt"])

    show(made, as_json, display)


@admin.command()
def unban(user: User, reason: Reason = NO_REASON, as_json: AsJson = False) -> None:
    """Lift a ban."""
    with the_broker() as broker:
        broker.send("DELETE", broker.user(user, "ban"), {"reason": reason})
    show({"unbanned": user}, as_json, lambda: say(f"[green]may chat again[/]: {safe(user)}"))


@admin.command()
def explain(
    user: Annotated[str, typer.Option("--user", help="A chat user id, or external:<id>.")],
    room: Annotated[str, typer.Option("--room", help="A room id.")],
    action: Annotated[str, typer.Option("--action", help="join, leave, read, post, …")],
    as_json: AsJson = False,
) -> None:
    """Whether somebody may do something in a room, and why."""
    with the_broker() as broker:
        told = broker.get("/admin/explain", user=user, room=room, action=action)

    def display() -> None:
        verdict = "[green]allowed[/]" if told["allowed"] else "[red]refused[/]"
        say(f"{verdict} by the rule {safe(told['rule'])}: {safe(told['reason'])}")
        fields(told["facts"])

    show(told, as_json, display)


@admin.command()
def status(as_json: AsJson = False) -> None:
    """How the broker is."""
    with the_broker() as broker:
        found = broker.get("/admin/status")

    def display() -> None:
        color = {"ok": "green", "degraded": "yellow"}.get(found["status"], "red")
        say(f"[bold {color}]{safe(found['status'])}[/]")
        rows = [
            [f"{part}.{name}", flat(value)]
            for part in ("versions", "modes", "upstream", "database", "redis", "counts")
            for name, value in found[part].items()
        ]
        table(["", "value"], rows, nothing="")

    show(found, as_json, display)
