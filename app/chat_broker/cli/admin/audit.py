"""`admin audit`: list and export the audit log, and verify its chain."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chat_broker.admin.audit_log import GENESIS, verify_chain
from chat_broker.cli.admin.options import (
    REFUSED,
    USAGE,
    AsJson,
    Limit,
    noun,
    safe,
    say,
    show,
    stop,
    table,
    the_broker,
    wants_json,
)

if TYPE_CHECKING:
    from chat_broker.cli.admin.client import AdminClient

audit = noun("Who did what; export it, and check that it is whole.")

Actor = Annotated[str | None, typer.Option("--actor", help="A key's id, or bootstrap.")]
What = Annotated[str | None, typer.Option("--action", help="users.ban, or users, or ban.")]
Subject = Annotated[str | None, typer.Option("--subject", help="Whom it was about.")]
Since = Annotated[str | None, typer.Option("--since", help="An instant; included.")]
Until = Annotated[str | None, typer.Option("--until", help="An instant; not included.")]
_HEAD = re.compile(r"[0-9a-f]{64}")
_AUDIT_COLUMNS = ["at", "actor", "action", "subject", "outcome", "reason", "ip", "request_id"]


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
    conditions = _conditions(actor, action, subject, since, until)
    with the_broker() as broker:
        response = broker.get("/admin/audit", **conditions, limit=limit, cursor=cursor)
    rows = [[record.get(name) for name in _AUDIT_COLUMNS] for record in response["items"]]

    def display() -> None:
        table(_AUDIT_COLUMNS, rows, nothing="no records")
        if response["next_cursor"]:
            say(f"[dim]more: --cursor {response['next_cursor']}[/]")

    show(response, as_json, display)


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
    """All records as NDJSON, oldest first, with the hashes that `verify` checks."""
    conditions = _conditions(actor, action, subject, since, until)
    with the_broker() as broker:
        lines = _export(broker, conditions, quiet=to is None or wants_json(as_json))
        if to is None:
            for line in lines:
                sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
            return
        count = 0
        with to.open("w") as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
    show(
        {"records": count, "file": str(to)},
        as_json,
        lambda: say(f"{count} records → {safe(str(to))}"),
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
    head_file: Annotated[
        Path | None,
        typer.Option(
            "--head-file",
            help="Where the head is noted from run to run: as --expect, but for the first run; noted anew if all is sound.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that no record was changed and none is missing; exit code 1 otherwise."""
    expected = _expected_head(expect_head, head_file)
    result = _verified(file, expected, quiet=wants_json(as_json))
    if result["ok"] and head_file is not None:
        _write_head(head_file, result["head"])
    problem = result["problem"]

    def display() -> None:
        if problem is None:
            say(f"[green]sound[/]: {result['checked']} records, none changed, none missing")
        else:
            say(
                f"[bold red]not sound[/]: {safe(problem)} ({result['checked']} records before it are)"
            )
        say(f"head {result['head']}")

    show(result, as_json, display)
    if problem is not None:
        raise typer.Exit(REFUSED)


def _conditions(
    actor: str | None, action: str | None, subject: str | None, since: str | None, until: str | None
) -> dict[str, str | None]:
    return {"actor": actor, "action": action, "subject": subject, "since": since, "until": until}


def _expected_head(head: str | None, file: Path | None) -> str | None:
    """The head that has to be in the chain; None on the first run."""
    if head is not None and file is not None:
        stop("--expect and --head-file name the same thing: give one.", USAGE)
    if head is not None and not _HEAD.fullmatch(head):
        stop("--expect: a head is the 64 hexadecimal digits that verify prints.", USAGE)
    if file is None or head is not None:
        return head
    try:
        noted = file.read_text().strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        noted = stop(f"{file}: {getattr(error, 'strerror', None) or 'holds no text'}", USAGE)
    if not _HEAD.fullmatch(noted):
        stop(f"{file}: holds no head (64 hexadecimal digits). Remove it to begin anew.", USAGE)
    return noted


def _write_head(file: Path, head: str) -> None:
    new_file = file.with_name(f"{file.name}.new")
    try:
        new_file.write_text(f"{head}\n")
        new_file.replace(file)
    except OSError as error:
        stop(f"{file}: {error.strerror}", USAGE)


def _verified(file: Path | None, expected: str | None, *, quiet: bool) -> dict[str, Any]:
    """The result of checking the export *file*, or the broker's chain if it is None."""
    hashes = {GENESIS}
    length = 0

    def noting(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for line in lines:
            if line.get("hash") == expected:
                hashes.add(str(expected))
            yield line

    if file is not None:
        try:
            with file.open() as lines:
                check = verify_chain(noting(_parsed(lines)))
        except OSError as error:
            stop(f"{file}: {error.strerror}", USAGE)
    else:
        with the_broker() as broker:
            length = broker.audit_length()
            check = verify_chain(noting(_export(broker, {}, quiet=quiet)))
    problem, seq = check.problem, check.seq
    if problem is None and check.checked < length:
        seq = check.checked + 1
        problem = f"record {seq} is missing: the chain should have {length} or more"
    if problem is None and expected is not None and expected not in hashes:
        problem = "the head noted earlier is not in the chain: it was written anew"
    return {
        "ok": problem is None,
        "checked": check.checked,
        "head": check.head,
        "problem": problem,
        "seq": seq,
    }


def _parsed(lines: Any) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        yield value if isinstance(value, dict) else {}


def _export(
    broker: "AdminClient", conditions: dict[str, str | None], *, quiet: bool
) -> Iterator[dict[str, Any]]:
    """Every record of an export, with a progress bar on the terminal."""
    from rich.console import Console  # not loaded by commands that print nothing
    from rich.progress import Progress  # as above

    with Progress(
        console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("audit", total=None)
        for record, length in broker.audit(conditions):
            bar.update(task, total=length, completed=record.get("seq", 0))
            yield record
