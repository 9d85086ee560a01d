"""What all commands share: options, the broker to talk to, output for people and for programs."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

if TYPE_CHECKING:  # the HTTP client is loaded by those who need it, not by `serve`
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
    """The broker the environment names; what goes wrong becomes a message and an exit code."""
    # The HTTP client is loaded by commands that ask something.
    from chat_broker.cli.admin.client import DEFAULT_URL, AdminClient, Problem, Unreachable

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


def stop(why: str, code: int) -> Any:
    from rich.console import Console  # what draws is not loaded by a command that draws nothing

    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]error[/]: {safe(why)}")
    raise typer.Exit(code)


def say(text: str) -> None:
    from rich.console import Console  # what draws is not loaded by a command that draws nothing

    Console(soft_wrap=True, highlight=False).print(text)


def _json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def table(columns: list[str], rows: list[list[Any]], *, nothing: str) -> None:
    from rich.console import Console  # what draws is not loaded by a command that draws nothing
    from rich.table import Table  # as above

    # Where nobody looks at it, lines are for other programs: not cut at 80 characters.
    console = Console() if sys.stdout.isatty() else Console(width=400)
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
    """*text* of others as text: no markup of rich's, no control characters of the terminal's."""
    from rich.markup import escape  # what draws is not loaded by a command that draws nothing

    return escape("".join(char if char.isprintable() else "\ufffd" for char in text))


def fields(value: Mapping[str, Any]) -> None:
    table(["field", "value"], [[name, flat(each)] for name, each in value.items()], nothing="")


def flat(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False) if value else None
    return value


_json_wanted: ContextVar[bool] = ContextVar("json_wanted", default=False)


def here(as_json: bool) -> None:
    """`--json` counts wherever it stands: before a command as well as after it."""
    if as_json:
        _json_wanted.set(True)


def wants_json(as_json: bool) -> bool:
    return as_json or _json_wanted.get()


def show(value: Any, as_json: bool, otherwise: Callable[[], None]) -> None:
    if wants_json(as_json):
        _json(value)
    else:
        otherwise()


def until_when(text: str | None) -> str | None:
    """An instant, or how long from now: 30m, 12h, 7d."""
    if text is None:
        return None
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    if text[:-1].isdigit() and text[-1:] in units:
        ends = time.time() + int(text[:-1]) * units[text[-1]]
        return datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return text


def more(page: Mapping[str, Any]) -> None:
    if (page.get("totalPages") or 1) > 1:
        say(f"[dim]page {page['page']} of {page['totalPages']}, {page['total']} in all[/]")


@contextmanager
def busy(what: str, *, quiet: bool) -> Iterator[None]:
    from rich.console import Console  # what draws is not loaded by a command that draws nothing

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield
        return
    with console.status(what):
        yield
