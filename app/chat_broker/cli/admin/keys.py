"""`admin keys`: list, create, revoke."""

from typing import Annotated, Any

import typer

from chat_broker.cli.admin.options import (
    USAGE,
    AsJson,
    noun,
    safe,
    say,
    show,
    stop,
    table,
    the_broker,
    to_instant,
)

keys = noun("Admin keys: list, create, revoke.")

_KEY_COLUMNS = ["id", "name", "scopes", "created_at", "created_by", "expires_at", "revoked_at"]


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Every key, expired and revoked ones included."""
    with the_broker() as broker:
        response = broker.get("/admin/keys")
    rows = [
        [" ".join(key[name]) if name == "scopes" else key.get(name) for name in _KEY_COLUMNS]
        for key in response["items"]
    ]
    show(
        response,
        as_json,
        lambda: table(_KEY_COLUMNS, rows, nothing="no keys but the bootstrap key"),
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
    """Create a key. It is shown only now, alone on the last line."""
    key_name = name or positional
    scopes = [each for text in scope or [] for each in text.replace(",", " ").split()]
    if not key_name or not scopes:
        stop("A key needs --name and at least one --scope.", USAGE)
    body: dict[str, Any] = {"name": key_name, "scopes": scopes}
    if expires_at := to_instant(expires):
        body["expires_at"] = expires_at
    with the_broker() as broker:
        created = broker.send("POST", "/admin/keys", body)

    def display() -> None:
        say(
            f"[green]created[/] {safe(created['id'])} ({safe(created['name'])}). It is shown this once:"
        )
        print(created["key"])  # noqa: T201 - not to be wrapped or coloured

    show(created, as_json, display)


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The id of the key.")], as_json: AsJson = False
) -> None:
    """Revoke a key for good."""
    with the_broker() as broker:
        broker.send("DELETE", broker.path("keys", key_id))
    show(
        {"revoked": key_id},
        as_json,
        lambda: say(f"[green]opens nothing any more[/]: {safe(key_id)}"),
    )
