"""`admin users`: see, bring in, change and delete users."""

from typing import Annotated, Any

import typer

from chat_broker.cli.admin.options import (
    NO_REASON,
    AsJson,
    Limit,
    PageNumber,
    Reason,
    User,
    fields,
    here,
    more,
    safe,
    say,
    show,
    table,
    the_broker,
)

users = typer.Typer(help="See, bring in, change and delete users.", invoke_without_command=True)

_USER_COLUMNS = ["id", "external_user_id", "username", "display_name", "status", "created_at"]


def _user_page(page: int, limit: int, q: str | None, status: str | None, as_json: bool) -> None:
    with the_broker() as broker:
        found = broker.get("/admin/users", page=page, limit=limit, q=q, status=status)
    rows = [[user.get(name) for name in _USER_COLUMNS] for user in found["items"]]

    def display() -> None:
        table(_USER_COLUMNS, rows, nothing="no users")
        more(found)

    show(found, as_json, display)


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
    here(as_json)
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
    with the_broker() as broker:
        found = broker.get(broker.user(user))
    show(found, as_json, lambda: fields(found))


@users.command("bans")
def list_bans(user: User, as_json: AsJson = False) -> None:
    """All bans of a user, latest first."""
    with the_broker() as broker:
        found = broker.get(broker.user(user, "bans"))
    columns = ["id", "active", "reason", "until", "by", "created_at", "lifted_at", "lifted_by"]
    rows = [[ban.get(name) for name in columns] for ban in found["items"]]
    show(found, as_json, lambda: table(columns, rows, nothing="never banned"))


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
    given = {
        "username": username,
        "display_name": display_name,
        "email": email,
        "avatar_url": avatar_url,
    }
    body = {name: value for name, value in given.items() if value is not None}
    with the_broker() as broker:
        found = broker.send("PUT", broker.user(user), body)
    show(found, as_json, lambda: fields(found))


@users.command("suspend")
def suspend_user(user: User, as_json: AsJson = False) -> None:
    """Suspend a user until `users activate`."""
    _set_status(user, "suspended", as_json)


@users.command("activate")
def activate_user(user: User, as_json: AsJson = False) -> None:
    """Let a suspended user go on."""
    _set_status(user, "active", as_json)


def _set_status(user: str, status: str, as_json: bool) -> None:
    with the_broker() as broker:
        found = broker.send("PATCH", broker.user(user), {"status": status})
    show(found, as_json, lambda: fields(found))


@users.command("delete")
def delete_user(user: User, reason: Reason = NO_REASON, as_json: AsJson = False) -> None:
    """Delete a user; what they said stays."""
    with the_broker() as broker:
        broker.send("DELETE", broker.user(user), {"reason": reason})
    show({"deleted": user}, as_json, lambda: say(f"[green]deleted[/] {safe(user)}"))


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
    with the_broker() as broker:
        made = broker.send("POST", broker.user(user, "token"), body)
    show(made, as_json, lambda: print(made["token"]))  # noqa: T201 - for a pipe
