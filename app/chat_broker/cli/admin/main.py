"""`chat-broker admin …` and `chat-broker token inspect`: the admin routes from a shell.

Exit codes: 0 done; 1 the broker refused it, or a check failed; 2 wrong usage or settings; 3 the broker
cannot be reached or cannot do it now.
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
    note_json,
    safe,
    say,
    show,
    table,
    the_broker,
    to_instant,
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


admin.callback()(note_json)


def _say_revocation(result: Mapping[str, Any]) -> None:
    names = ("generation", "sockets_closed", "nodes_acked", "nodes_total", "took_ms")
    generation, closed, acked, total, took_ms = (result.get(name) for name in names)
    if all(value is None for value in (generation, closed, acked, total, took_ms)):
        say("[yellow]The Chat API gave no receipt.[/]")
        return
    say(f"generation {cell(generation)}, sockets closed: {cell(closed)}")
    if acked is not None and total is not None and acked < total:
        say(
            f"[yellow]{acked} of {total} nodes have answered; the others follow within ten seconds.[/]"
        )
    elif acked is not None:
        say(f"[green]all nodes have answered[/] ({acked}) in {cell(took_ms)} ms")


@admin.command()
def revoke(
    user: User,
    reason: Reason = NO_REASON,
    session: Annotated[
        str | None, typer.Option("--session", help="One session (sid) only.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Revoke the tokens of a user, and close the sockets."""
    body = {"reason": reason} | ({"session_id": session} if session else {})
    with the_broker() as broker:
        result = broker.send("POST", broker.user(user, "revoke"), body)
    show(result, as_json, lambda: _say_revocation(result))


@admin.command("revoke-all")
def revoke_all(
    reason: Reason = NO_REASON,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Revoke every token of the project, for a signing key that has leaked."""
    if not yes and sys.stdin.isatty():
        typer.confirm("Every user will be disconnected. Go on?", abort=True)
    with the_broker() as broker, busy("revoking", quiet=wants_json(as_json)):
        result = broker.send("POST", "/admin/revoke-all", {"reason": reason}, seconds=60)
    show(result, as_json, lambda: _say_revocation(result))


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
    """Ban a user, and close the sockets."""
    ends_at = to_instant(until)
    body = {"reason": reason} | ({"until": ends_at} if ends_at else {})
    with the_broker() as broker:
        banned = broker.send("POST", broker.user(user, "ban"), body)

    def display() -> None:
        end = banned["ban"]["until"]
        say(f"[bold red]banned[/] {safe(user)} " + (f"until {safe(end)}" if end else "for good"))
        _say_revocation(banned["receipt"])

    show(banned, as_json, display)


@admin.command()
def unban(user: User, reason: Reason = NO_REASON, as_json: AsJson = False) -> None:
    """Lift the ban of a user."""
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
    """Whether a user may do an action in a room, and why."""
    with the_broker() as broker:
        decision = broker.get("/admin/explain", user=user, room=room, action=action)

    def display() -> None:
        outcome = "[green]allowed[/]" if decision["allowed"] else "[red]refused[/]"
        say(f"{outcome} by the rule {safe(decision['rule'])}: {safe(decision['reason'])}")
        fields(decision["facts"])

    show(decision, as_json, display)


@admin.command()
def status(as_json: AsJson = False) -> None:
    """The state of the broker and of what it depends on."""
    with the_broker() as broker:
        state = broker.get("/admin/status")

    def display() -> None:
        color = {"ok": "green", "degraded": "yellow"}.get(state["status"], "red")
        say(f"[bold {color}]{safe(state['status'])}[/]")
        rows = [
            [f"{part}.{name}", flat(value)]
            for part in ("versions", "modes", "upstream", "database", "redis", "counts")
            for name, value in state[part].items()
        ]
        table(["", "value"], rows, nothing="")

    show(state, as_json, display)
