"""`admin keys`: list, create, revoke."""

from typing import Annotated

import typer

from chat_broker.cli.admin.options import (
    USAGE,
    AsJson,
    here,
    safe,
    say,
    show,
    stop,
    table,
    the_broker,
    until_when,
)

keys = typer.Typer(help="Admin keys: list, create, revoke.", invoke_without_command=True)

_KEY_COLUMNS = ["id", "name", "scopes", "created_at", "created_by", "expires_at", "revoked_at"]


@keys.callback()
def keys_here(context: typer.Context, as_json: AsJson = False) -> None:
    """Without a command: list."""
    here(as_json)
    if context.invoked_subcommand is None:
        list_keys(as_json)


@keys.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """Every key, ended ones too."""
    with the_broker() as broker:
        found = broker.get("/admin/keys")
    rows = [
        [" ".join(key[name]) if name == "scopes" else key.get(name) for name in _KEY_COLUMNS]
        for key in found["items"]
    ]
    show(found, as_json, lambda: table(_KEY_COLUMNS, rows, nothing="no keys but the bootstrap key"))


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
        stop("A key needs --name and at least one --scope.", USAGE)
    body = {"name": called, "scopes": scopes} | (
        {"expires_at": ends} if (ends := until_when(expires)) else {}
    )
    with the_broker() as broker:
        made = broker.send("POST", "/admin/keys", body)

    def display() -> None:
        say(f"[green]created[/] {safe(made['id'])} ({safe(made['name'])}). It is shown this once:")
        print(made["key"])  # noqa: T201 - not to be wrapped or coloured

    show(made, as_json, display)


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The id of the key.")], as_json: AsJson = False
) -> None:
    """End a key for good."""
    with the_broker() as broker:
        broker.send("DELETE", broker.path("keys", key_id))
    show(
        {"revoked": key_id},
        as_json,
        lambda: say(f"[green]opens nothing any more[/]: {safe(key_id)}"),
    )
