"""`admin users`: list, create, change and delete users."""

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
    noun,
    safe,
    say,
    show,
    show_page,
    the_broker,
)

users = noun("See, bring in, change and delete users.")

_USER_COLUMNS = ["id", "external_user_id", "username", "display_name", "status", "created_at"]
_BAN_COLUMNS = ["id", "active", "reason", "until", "by", "created_at", "lifted_at", "lifted_by"]


@users.command("list")
def list_users(
    page: PageNumber = 1,
    limit: Limit = 50,
    q: Annotated[str | None, typer.Option("--q", help="Part of a name.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="active or suspended.")] = None,
    as_json: AsJson = False,
) -> None:
    """One page of users."""
    with the_broker() as broker:
        response = broker.get("/admin/users", page=page, limit=limit, q=q, status=status)
    show_page(response, as_json, _USER_COLUMNS, nothing="no users")


@users.command("get")
def get_user(user: User, as_json: AsJson = False) -> None:
    """One user, and the ban in force."""
    with the_broker() as broker:
        response = broker.get(broker.user(user))
    show(response, as_json, lambda: fields(response))


@users.command("bans")
def list_bans(user: User, as_json: AsJson = False) -> None:
    """All bans of a user, latest first."""
    with the_broker() as broker:
        response = broker.get(broker.user(user, "bans"))
    show_page(response, as_json, _BAN_COLUMNS, nothing="never banned")


@users.command("put")
def put_user(
    user: Annotated[str, typer.Argument(help="external:<external_user_id>.")],
    username: Annotated[str | None, typer.Option("--username")] = None,
    display_name: Annotated[str | None, typer.Option("--display-name")] = None,
    email: Annotated[str | None, typer.Option("--email")] = None,
    avatar_url: Annotated[str | None, typer.Option("--avatar-url")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a user by external id, or change the fields that options name."""
    fields_of_user = {
        "username": username,
        "display_name": display_name,
        "email": email,
        "avatar_url": avatar_url,
    }
    body = {name: value for name, value in fields_of_user.items() if value is not None}
    with the_broker() as broker:
        response = broker.send("PUT", broker.user(user), body)
    show(response, as_json, lambda: fields(response))


@users.command("suspend")
def suspend_user(user: User, as_json: AsJson = False) -> None:
    """Suspend a user until `users activate`."""
    _set_status(user, "suspended", as_json)


@users.command("activate")
def activate_user(user: User, as_json: AsJson = False) -> None:
    """End the suspension of a user."""
    _set_status(user, "active", as_json)


def _set_status(user: str, status: str, as_json: bool) -> None:
    with the_broker() as broker:
        response = broker.send("PATCH", broker.user(user), {"status": status})
    show(response, as_json, lambda: fields(response))


@users.command("delete")
def delete_user(user: User, reason: Reason = NO_REASON, as_json: AsJson = False) -> None:
    """Delete a user; the messages stay."""
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
    """Print a chat token for a user, on one line."""
    body: dict[str, Any] = {"reason": reason}
    if expires_in is not None:
        body["expires_in"] = expires_in
    with the_broker() as broker:
        minted = broker.send("POST", broker.user(user, "token"), body)
    show(minted, as_json, lambda: print(minted["token"]))  # noqa: T201 - for a pipe
