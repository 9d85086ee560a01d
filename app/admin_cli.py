"""`chat-broker admin …` and `chat-broker token inspect`: the admin routes from a shell.

Exit codes: 0 done; 1 the broker refused it, or what was checked is not sound; 2 wrong usage or
settings; 3 the broker cannot be reached or cannot do it now.
"""

import base64
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from app.audit import GENESIS, verify_now

if TYPE_CHECKING:  # the HTTP client is loaded by those who need it, not by `serve`
    from app.admin_client import AdminClient

admin = typer.Typer(
    name="admin",
    help="The admin routes from a shell. Reads CHAT_BROKER_URL and CHAT_BROKER_ADMIN_KEY.",
    no_args_is_help=True,
)
users = typer.Typer(help="See, bring in, change and delete users.", invoke_without_command=True)
keys = typer.Typer(help="Admin keys: list, create, revoke.", invoke_without_command=True)
audit = typer.Typer(
    help="Who did what; export it, and check that it is whole.", invoke_without_command=True
)
rooms = typer.Typer(help="See and delete rooms and messages.", invoke_without_command=True)
token = typer.Typer(name="token", help="Chat tokens.", no_args_is_help=True)
admin.add_typer(users, name="users")
admin.add_typer(keys, name="keys")
admin.add_typer(audit, name="audit")
admin.add_typer(rooms, name="rooms")

REFUSED, USAGE, UNREACHABLE = 1, 2, 3
NO_REASON: Final = "no reason given"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]
User = Annotated[str, typer.Argument(help="A chat user id, or external:<external_user_id>.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; the audit keeps it.")]
PageNumber = Annotated[int, typer.Option("--page", min=1, help="Counts from 1.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=200, help="Items of a page.")]


@admin.callback()
def admin_here(as_json: AsJson = False) -> None:
    """The admin routes from a shell. Reads CHAT_BROKER_URL and CHAT_BROKER_ADMIN_KEY."""
    _here(as_json)


@contextmanager
def _broker() -> "Iterator[AdminClient]":
    """The broker the environment names; what goes wrong becomes a message and an exit code."""
    from app.admin_client import DEFAULT_URL, AdminClient, Problem, Unreachable

    key = os.environ.get("CHAT_BROKER_ADMIN_KEY", "")
    if not key:
        _stop("Set CHAT_BROKER_ADMIN_KEY to an admin key.", USAGE)
    try:
        client = AdminClient(os.environ.get("CHAT_BROKER_URL") or DEFAULT_URL, key)
    except ValueError as error:
        _stop(str(error), USAGE)
    with client:
        try:
            yield client
        except Unreachable as error:
            _stop(str(error), UNREACHABLE)
        except Problem as error:
            _stop(str(error), UNREACHABLE if error.status >= 500 else REFUSED)


def _stop(why: str, code: int) -> Any:
    from rich.console import Console

    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]error[/]: {_safe(why)}")
    raise typer.Exit(code)


def _print(text: str) -> None:
    from rich.console import Console

    Console(soft_wrap=True, highlight=False).print(text)


def _json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _table(columns: list[str], rows: list[list[Any]], *, nothing: str) -> None:
    from rich.console import Console
    from rich.table import Table

    # Where nobody looks at it, lines are for other programs: not cut at 80 characters.
    console = Console() if sys.stdout.isatty() else Console(width=400)
    if not rows:
        console.print(f"[dim]{nothing}[/]")
        return
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _cell(value: Any) -> str:
    match value:
        case None | "":
            return "[dim]–[/]"
        case True:
            return "[green]yes[/]"
        case False:
            return "no"
        case "active" | "ok":
            return f"[green]{value}[/]"
        case "suspended" | "failed" | "banned":
            return f"[red]{value}[/]"
        case "refused":
            return f"[yellow]{value}[/]"
    return _safe(str(value))


def _safe(text: str) -> str:
    """*text* of others as text: no markup of rich's, no control characters of the terminal's."""
    from rich.markup import escape

    return escape("".join(char if char.isprintable() else "\ufffd" for char in text))


def _fields(value: Mapping[str, Any]) -> None:
    _table(["field", "value"], [[name, _flat(each)] for name, each in value.items()], nothing="")


def _flat(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False) if value else None
    return value


_json_wanted: ContextVar[bool] = ContextVar("json_wanted", default=False)


def _here(as_json: bool) -> None:
    """`--json` counts wherever it stands: before a command as well as after it."""
    if as_json:
        _json_wanted.set(True)


def _wants_json(as_json: bool) -> bool:
    return as_json or _json_wanted.get()


def _show(value: Any, as_json: bool, otherwise: Callable[[], None]) -> None:
    if _wants_json(as_json):
        _json(value)
    else:
        otherwise()


def _until(text: str | None) -> str | None:
    """An instant, or how long from now: 30m, 12h, 7d."""
    if text is None:
        return None
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    if text[:-1].isdigit() and text[-1:] in units:
        ends = time.time() + int(text[:-1]) * units[text[-1]]
        return datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return text


# -- users --------------------------------------------------------------------------------------

_USER_COLUMNS = ["id", "external_user_id", "username", "display_name", "status", "created_at"]


def _user_page(page: int, limit: int, q: str | None, status: str | None, as_json: bool) -> None:
    with _broker() as broker:
        found = broker.get("/admin/users", page=page, limit=limit, q=q, status=status)
    rows = [[user.get(name) for name in _USER_COLUMNS] for user in found["items"]]

    def show() -> None:
        _table(_USER_COLUMNS, rows, nothing="no users")
        _more(found)

    _show(found, as_json, show)


def _more(page: Mapping[str, Any]) -> None:
    if (page.get("totalPages") or 1) > 1:
        _print(f"[dim]page {page['page']} of {page['totalPages']}, {page['total']} in all[/]")


@users.callback()
def users_here(
    context: typer.Context,
    page: PageNumber = 1,
    limit: Limit = 50,
    q: Annotated[str | None, typer.Option("--q", help="Part of a name.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="active or suspended.")] = None,
    as_json: AsJson = False,
) -> None:
    """Without a command: list."""
    _here(as_json)
    if context.invoked_subcommand is None:
        _user_page(page, limit, q, status, as_json)


@users.command("list")
def list_users(
    page: PageNumber = 1,
    limit: Limit = 50,
    q: Annotated[str | None, typer.Option("--q", help="Part of a name.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="active or suspended.")] = None,
    as_json: AsJson = False,
) -> None:
    """One page of users."""
    _user_page(page, limit, q, status, as_json)


@users.command("get")
def get_user(user: User, as_json: AsJson = False) -> None:
    """One user, and the ban that holds."""
    with _broker() as broker:
        found = broker.get(broker.user(user))
    _show(found, as_json, lambda: _fields(found))


@users.command("bans")
def list_bans(user: User, as_json: AsJson = False) -> None:
    """All bans of a user, latest first."""
    with _broker() as broker:
        found = broker.get(broker.user(user, "bans"))
    columns = ["id", "active", "reason", "until", "by", "created_at", "lifted_at", "lifted_by"]
    rows = [[ban.get(name) for name in columns] for ban in found["items"]]
    _show(found, as_json, lambda: _table(columns, rows, nothing="never banned"))


@users.command("put")
def put_user(
    user: Annotated[str, typer.Argument(help="external:<external_user_id>.")],
    username: Annotated[str | None, typer.Option("--username")] = None,
    display_name: Annotated[str | None, typer.Option("--display-name")] = None,
    email: Annotated[str | None, typer.Option("--email")] = None,
    avatar_url: Annotated[str | None, typer.Option("--avatar-url")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a user by external id, or change the fields given."""
    fields = {
        "username": username,
        "display_name": display_name,
        "email": email,
        "avatar_url": avatar_url,
    }
    body = {name: value for name, value in fields.items() if value is not None}
    with _broker() as broker:
        found = broker.send("PUT", broker.user(user), body)
    _show(found, as_json, lambda: _fields(found))


@users.command("suspend")
def suspend_user(user: User, as_json: AsJson = False) -> None:
    """Suspend a user until `users activate`."""
    _set_status(user, "suspended", as_json)


@users.command("activate")
def activate_user(user: User, as_json: AsJson = False) -> None:
    """Let a suspended user go on."""
    _set_status(user, "active", as_json)


def _set_status(user: str, status: str, as_json: bool) -> None:
    with _broker() as broker:
        found = broker.send("PATCH", broker.user(user), {"status": status})
    _show(found, as_json, lambda: _fields(found))


@users.command("delete")
def delete_user(user: User, reason: Reason = NO_REASON, as_json: AsJson = False) -> None:
    """Delete a user; what they said stays."""
    with _broker() as broker:
        broker.send("DELETE", broker.user(user), {"reason": reason})
    _show({"deleted": user}, as_json, lambda: _print(f"[green]deleted[/] {_safe(user)}"))


@users.command("token")
def mint_token(
    user: User,
    reason: Reason = NO_REASON,
    expires_in: Annotated[int | None, typer.Option("--expires-in", min=1, help="Seconds.")] = None,
    as_json: AsJson = False,
) -> None:
    """A chat token for somebody; alone on its line."""
    body: dict[str, Any] = {"reason": reason}
    if expires_in is not None:
        body["expires_in"] = expires_in
    with _broker() as broker:
        made = broker.send("POST", broker.user(user, "token"), body)
    _show(made, as_json, lambda: print(made["token"]))  # noqa: T201 - for a pipe


# -- cutting off --------------------------------------------------------------------------------


def _receipt_lines(receipt: Mapping[str, Any]) -> None:
    told = {
        name: receipt.get(name)
        for name in ("generation", "sockets_closed", "nodes_acked", "nodes_total", "took_ms")
    }
    if all(value is None for value in told.values()):
        _print("[yellow]The Chat API gave no receipt.[/]")
        return
    acked, total = told["nodes_acked"], told["nodes_total"]
    _print(
        f"generation {_cell(told['generation'])}, sockets closed: {_cell(told['sockets_closed'])}"
    )
    if acked is not None and total is not None and acked < total:
        _print(
            f"[yellow]{acked} of {total} nodes have answered; the others follow within ten seconds.[/]"
        )
    elif acked is not None:
        _print(f"[green]all nodes have answered[/] ({acked}) in {_cell(told['took_ms'])} ms")


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
    with _broker() as broker:
        receipt = broker.send("POST", broker.user(user, "revoke"), body)
    _show(receipt, as_json, lambda: _receipt_lines(receipt))


@admin.command("revoke-all")
def revoke_all(
    reason: Reason = NO_REASON,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make every token of the project worthless: for a signing key that has leaked."""
    if not yes and sys.stdin.isatty():
        typer.confirm("Every user will be disconnected. Go on?", abort=True)
    with _broker() as broker, _busy("revoking", quiet=_wants_json(as_json)):
        receipt = broker.send("POST", "/admin/revoke-all", {"reason": reason}, seconds=60)
    _show(receipt, as_json, lambda: _receipt_lines(receipt))


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
    body = {"reason": reason} | ({"until": ends} if (ends := _until(until)) else {})
    with _broker() as broker:
        made = broker.send("POST", broker.user(user, "ban"), body)

    def show() -> None:
        ends = made["ban"]["until"]
        _print(
            f"[bold red]banned[/] {_safe(user)} " + (f"until {_safe(ends)}" if ends else "for good")
        )
        _receipt_lines(made["receipt"])

    _show(made, as_json, show)


@admin.command()
def unban(user: User, reason: Reason = NO_REASON, as_json: AsJson = False) -> None:
    """Lift a ban."""
    with _broker() as broker:
        broker.send("DELETE", broker.user(user, "ban"), {"reason": reason})
    _show({"unbanned": user}, as_json, lambda: _print(f"[green]may chat again[/]: {_safe(user)}"))


@admin.command()
def explain(
    user: Annotated[str, typer.Option("--user", help="A chat user id, or external:<id>.")],
    room: Annotated[str, typer.Option("--room", help="A room id.")],
    action: Annotated[str, typer.Option("--action", help="join, leave, read, post, …")],
    as_json: AsJson = False,
) -> None:
    """Whether somebody may do something in a room, and why."""
    with _broker() as broker:
        told = broker.get("/admin/explain", user=user, room=room, action=action)

    def show() -> None:
        verdict = "[green]allowed[/]" if told["allowed"] else "[red]refused[/]"
        _print(f"{verdict} by the rule {_safe(told['rule'])}: {_safe(told['reason'])}")
        _fields(told["facts"])

    _show(told, as_json, show)


@admin.command()
def status(as_json: AsJson = False) -> None:
    """How the broker is."""
    with _broker() as broker:
        found = broker.get("/admin/status")

    def show() -> None:
        color = {"ok": "green", "degraded": "yellow"}.get(found["status"], "red")
        _print(f"[bold {color}]{_safe(found['status'])}[/]")
        rows = [
            [f"{part}.{name}", _flat(value)]
            for part in ("versions", "modes", "upstream", "database", "redis", "counts")
            for name, value in found[part].items()
        ]
        _table(["", "value"], rows, nothing="")

    _show(found, as_json, show)


# -- rooms --------------------------------------------------------------------------------------

_ROOM_COLUMNS = ["id", "name", "private", "member_count", "last_seq", "created_at"]


@rooms.callback()
def rooms_here(
    context: typer.Context, page: PageNumber = 1, limit: Limit = 50, as_json: AsJson = False
) -> None:
    """Without a command: list."""
    _here(as_json)
    if context.invoked_subcommand is None:
        list_rooms(page, limit, as_json)


@rooms.command("list")
def list_rooms(page: PageNumber = 1, limit: Limit = 50, as_json: AsJson = False) -> None:
    """One page of all rooms."""
    with _broker() as broker:
        found = broker.get("/admin/rooms", page=page, limit=limit)
    rows = [[room.get(name) for name in _ROOM_COLUMNS] for room in found["items"]]

    def show() -> None:
        _table(_ROOM_COLUMNS, rows, nothing="no rooms")
        _more(found)

    _show(found, as_json, show)


@rooms.command("messages")
def list_messages(
    room: str, page: PageNumber = 1, limit: Limit = 50, as_json: AsJson = False
) -> None:
    """What was said in a room, newest first."""
    with _broker() as broker:
        found = broker.get(broker.path("rooms", room, "messages"), page=page, limit=limit)
    columns = ["seq", "id", "username", "content", "created_at"]
    rows = [[message.get(name) for name in columns] for message in found["items"]]
    _show(found, as_json, lambda: _table(columns, rows, nothing="nothing was said"))


@rooms.command("delete")
def delete_room(room: str, reason: Reason = NO_REASON, as_json: AsJson = False) -> None:
    """Delete a room."""
    with _broker() as broker:
        broker.send("DELETE", broker.path("rooms", room), {"reason": reason})
    _show({"deleted": room}, as_json, lambda: _print(f"[green]deleted[/] {_safe(room)}"))


@rooms.command("delete-message")
def delete_message(
    room: str, message: str, reason: Reason = NO_REASON, as_json: AsJson = False
) -> None:
    """Empty a message."""
    with _broker() as broker:
        broker.send("DELETE", broker.path("rooms", room, "messages", message), {"reason": reason})
    _show({"deleted": message}, as_json, lambda: _print(f"[green]deleted[/] {_safe(message)}"))


# -- keys ---------------------------------------------------------------------------------------

_KEY_COLUMNS = ["id", "name", "scopes", "created_at", "created_by", "expires_at", "revoked_at"]


@keys.callback()
def keys_here(context: typer.Context, as_json: AsJson = False) -> None:
    """Without a command: list."""
    _here(as_json)
    if context.invoked_subcommand is None:
        list_keys(as_json)


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Every key, ended ones too."""
    with _broker() as broker:
        found = broker.get("/admin/keys")
    rows = [
        [" ".join(key[name]) if name == "scopes" else key.get(name) for name in _KEY_COLUMNS]
        for key in found["items"]
    ]
    _show(
        found, as_json, lambda: _table(_KEY_COLUMNS, rows, nothing="no keys but the bootstrap key")
    )


@keys.command("create")
def create_key(
    positional: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="What it is for.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What it is for.")] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", "--scopes", "-s", help="Repeat, or separate by commas."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", "--expires-at", help="An instant, or 30d.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A new key, shown this once: alone on the last line."""
    called = name or positional
    scopes = [one for text in scope or [] for one in text.replace(",", " ").split()]
    if not called or not scopes:
        _stop("A key needs --name and at least one --scope.", USAGE)
    body = {"name": called, "scopes": scopes} | (
        {"expires_at": ends} if (ends := _until(expires)) else {}
    )
    with _broker() as broker:
        made = broker.send("POST", "/admin/keys", body)

    def show() -> None:
        _print(
            f"[green]created[/] {_safe(made['id'])} ({_safe(made['name'])}). It is shown this once:"
        )
        print(made["key"])  # noqa: T201 - not to be wrapped or coloured

    _show(made, as_json, show)


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The id of the key.")], as_json: AsJson = False
) -> None:
    """End a key for good."""
    with _broker() as broker:
        broker.send("DELETE", broker.path("keys", key_id))
    _show(
        {"revoked": key_id},
        as_json,
        lambda: _print(f"[green]opens nothing any more[/]: {_safe(key_id)}"),
    )


# -- audit --------------------------------------------------------------------------------------

Actor = Annotated[str | None, typer.Option("--actor", help="A key's id, or bootstrap.")]
What = Annotated[str | None, typer.Option("--action", help="users.ban, or users, or ban.")]
Subject = Annotated[str | None, typer.Option("--subject", help="Whom it was about.")]
Since = Annotated[str | None, typer.Option("--since", help="An instant; included.")]
Until = Annotated[str | None, typer.Option("--until", help="An instant; not included.")]
_AUDIT_COLUMNS = ["at", "actor", "action", "subject", "outcome", "reason", "ip", "request_id"]


@audit.callback()
def audit_here(
    context: typer.Context,
    actor: Actor = None,
    action: What = None,
    subject: Subject = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Without a command: list."""
    _here(as_json)
    if context.invoked_subcommand is None:
        list_audit(actor, action, subject, since, until, limit, None, as_json)


@audit.command("list")
def list_audit(
    actor: Actor = None,
    action: What = None,
    subject: Subject = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    cursor: Annotated[
        str | None, typer.Option("--cursor", help="From where the last page ended.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """One page of records, newest first."""
    asked = {"actor": actor, "action": action, "subject": subject, "since": since, "until": until}
    with _broker() as broker:
        found = broker.get("/admin/audit", **asked, limit=limit, cursor=cursor)
    rows = [[record.get(name) for name in _AUDIT_COLUMNS] for record in found["items"]]

    def show() -> None:
        _table(_AUDIT_COLUMNS, rows, nothing="no records")
        if found["next_cursor"]:
            _print(f"[dim]more: --cursor {found['next_cursor']}[/]")

    _show(found, as_json, show)


@audit.command("export")
def export_audit(
    to: Annotated[Path | None, typer.Argument(help="A file; standard output if left out.")] = None,
    actor: Actor = None,
    action: What = None,
    subject: Subject = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """All records as NDJSON, oldest first, with what `verify` needs."""
    asked = {"actor": actor, "action": action, "subject": subject, "since": since, "until": until}
    with _broker() as broker:
        lines = _walk(broker, asked, quiet=to is None or _wants_json(as_json))
        if to is None:
            for line in lines:
                sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
            return
        count = 0
        with to.open("w") as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
    _show(
        {"records": count, "file": str(to)},
        as_json,
        lambda: _print(f"{count} records → {_safe(str(to))}"),
    )


@audit.command("verify")
def verify_audit(
    file: Annotated[
        Path | None, typer.Option("--file", help="An export, instead of the broker.")
    ] = None,
    expect_head: Annotated[
        str | None,
        typer.Option("--expect", help="A head noted earlier: it must still be in the chain."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that no record was changed and none is missing; exit code 1 if one was."""
    seen: set[str] = set()
    length = 0

    def noted(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for line in lines:
            if line.get("hash") == expect_head:
                seen.add(str(expect_head))
            yield line

    if file is not None:
        try:
            with file.open() as lines:
                verdict = verify_now(noted(_parsed(lines)))
        except OSError as error:
            _stop(f"{file}: {error.strerror}", USAGE)
    else:
        with _broker() as broker:
            length = broker.audit_length()
            verdict = verify_now(noted(_walk(broker, {}, quiet=_wants_json(as_json))))
    problem, seq = verdict.problem, verdict.seq
    if problem is None and verdict.checked < length:
        seq = verdict.checked + 1
        problem = f"record {seq} is missing: the chain should have {length} or more"
    if problem is None and expect_head not in {None, GENESIS} and not seen:
        problem = "the head noted earlier is not in the chain: it was written anew"
    told = {
        "ok": problem is None,
        "checked": verdict.checked,
        "head": verdict.head,
        "problem": problem,
        "seq": seq,
    }

    def show() -> None:
        if problem is None:
            _print(f"[green]sound[/]: {verdict.checked} records, none changed, none missing")
        else:
            _print(
                f"[bold red]not sound[/]: {_safe(problem)} ({verdict.checked} records before it are)"
            )
        _print(f"head {verdict.head}")

    _show(told, as_json, show)
    if problem is not None:
        raise typer.Exit(REFUSED)


def _parsed(lines: Any) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        yield value if isinstance(value, dict) else {}


def _walk(
    broker: "AdminClient", asked: dict[str, str | None], *, quiet: bool
) -> Iterator[dict[str, Any]]:
    """Every record of an export, with a bar for who waits."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(
        console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("audit", total=None)
        for record, length in broker.audit(asked):
            bar.update(task, total=length, completed=record.get("seq", 0))
            yield record


@contextmanager
def _busy(what: str, *, quiet: bool) -> Iterator[None]:
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


# -- tokens -------------------------------------------------------------------------------------


@token.command("inspect")
def inspect_token(as_json: AsJson = False) -> None:
    """Read a chat JWT on standard input: its claims, and whether it would be accepted now and why not.

    Asks the broker that CHAT_BROKER_URL names. Exit code 1 if it would not be accepted, 3 if nobody
    can say.
    """
    from app.admin_client import DEFAULT_URL, AdminClient

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

    def show() -> None:
        verdict = {
            True: "[green]accepted[/]",
            False: "[bold red]not accepted[/]",
            None: "[yellow]unknown[/]",
        }
        _print(f"{verdict[accepted]}: {_safe(reason)}")
        if claims is not None:
            _fields(_readable(claims))

    _show(told, as_json, show)
    if accepted is not True:
        raise typer.Exit(REFUSED if accepted is False else UNREACHABLE)


def _judged(
    broker: "AdminClient", text: str, header: Any, claims: Any
) -> tuple[bool | None, str | None, str]:
    from app.admin_client import Problem, Unreachable

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
