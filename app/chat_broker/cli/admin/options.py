"""Options, connection and output that all commands share."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:  # it loads httpx, which `serve` does not need
    from rich.console import Console

    from chat_broker.cli.admin.client import AdminClient


REFUSED, USAGE, UNREACHABLE = 1, 2, 3
NO_REASON: Final = "no reason given"

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]
User = Annotated[str, typer.Argument(help="A chat user id, or external:<external_user_id>.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; the audit keeps it.")]
PageNumber = Annotated[int, typer.Option("--page", min=1, help="Counts from 1.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=200, help="Items of a page.")]


@contextmanager
def the_broker() -> "Iterator[AdminClient]":
    """A client for the broker that the environment names. Errors become a message and an exit code."""
    from chat_broker.cli.admin.client import (  # it loads httpx, which `serve` does not need
        DEFAULT_URL,
        AdminClient,
        Problem,
        Unreachable,
    )

    key = os.environ.get("CHAT_BROKER_ADMIN_KEY", "")
    if not key:
        stop("Set CHAT_BROKER_ADMIN_KEY to an admin key.", USAGE)
    try:
        client = AdminClient(os.environ.get("CHAT_BROKER_URL") or DEFAULT_URL, key)
    except ValueError as error:
        stop(str(error), USAGE)
    with client:
        try:
            yield client
        except Unreachable as error:
            stop(str(error), UNREACHABLE)
        except Problem as error:
            stop(str(error), UNREACHABLE if error.status >= 500 else REFUSED)


def stop(reason: str, code: int) -> NoReturn:
    """Print an error and exit with *code*."""
    _console(stderr=True, soft_wrap=True).print(f"[bold red]error[/]: {safe(reason)}")
    raise typer.Exit(code)


def say(text: str) -> None:
    """Print one line of rich markup, not wrapped."""
    _console(soft_wrap=True).print(text)


def _console(**options: Any) -> "Console":
    from rich.console import Console  # not loaded by commands that print nothing

    return Console(highlight=False, **options)


def table(columns: list[str], rows: list[list[Any]], *, nothing: str) -> None:
    """Print a table, or *nothing* if there are no rows."""
    from rich.table import Table  # not loaded by commands that print nothing

    # Without a terminal, other programs read the lines: they are not cut at 80 characters.
    console = _console() if sys.stdout.isatty() else _console(width=400)
    if not rows:
        console.print(f"[dim]{nothing}[/]")
        return
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    console.print(table)


def cell(value: Any) -> str:
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
    return safe(str(value))


def safe(text: str) -> str:
    """*text* from a user, without rich markup and control characters of the terminal."""
    from rich.markup import escape  # not loaded by commands that print nothing

    return escape("".join(char if char.isprintable() else "\ufffd" for char in text))


def fields(value: Mapping[str, Any]) -> None:
    table(["field", "value"], [[name, flat(each)] for name, each in value.items()], nothing="")


def flat(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False) if value else None
    return value


_json_wanted: ContextVar[bool] = ContextVar("json_wanted", default=False)


def note_json(as_json: AsJson = False) -> None:
    """Remember a `--json` that stands before the command."""
    if as_json:
        _json_wanted.set(True)


def wants_json(as_json: bool) -> bool:
    return as_json or _json_wanted.get()


def show(value: Any, as_json: bool, display: Callable[[], None]) -> None:
    """Print *value* as JSON if `--json` asks for it, or else call *display*."""
    if wants_json(as_json):
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    else:
        display()


def show_page(page: Mapping[str, Any], as_json: bool, columns: list[str], *, nothing: str) -> None:
    """Print a page's items as a table, with the number of pages below if there are several."""

    def display() -> None:
        rows = [[item.get(name) for name in columns] for item in page["items"]]
        table(columns, rows, nothing=nothing)
        if (page.get("totalPages") or 1) > 1:
            say(f"[dim]page {page['page']} of {page['totalPages']}, {page['total']} in all[/]")

    show(page, as_json, display)


class ListByDefault(TyperGroup):
    """A group whose command is `list` if none is named: `admin users --q ada`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = next((place for place, arg in enumerate(args) if arg != "--json"), len(args))
        if first == len(args) or (args[first].startswith("-") and args[first] != "--help"):
            args = [*args[:first], "list", *args[first:]]
        return super().parse_args(ctx, args)


def noun(text: str) -> typer.Typer:
    """The group of a noun's commands, with the help *text*. `--json` may also stand before the command."""
    group = typer.Typer(help=text, cls=ListByDefault)
    group.callback()(note_json)
    return group


def to_instant(text: str | None) -> str | None:
    """The instant that *text* names: itself, or a time from now (30m, 12h, 7d)."""
    if text is None:
        return None
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    if text[:-1].isdigit() and text[-1:] in units:
        seconds = time.time() + int(text[:-1]) * units[text[-1]]
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return text


@contextmanager
def busy(message: str, *, quiet: bool) -> Iterator[None]:
    """Show a spinner on the terminal for as long as the block lasts."""
    console = _console(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(message):
        yield
