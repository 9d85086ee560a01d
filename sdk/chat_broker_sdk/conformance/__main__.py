"""`chat-broker-sdk conformance`: a table of what a server has, lacks and gets wrong of the Chat API contract."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

from chat_broker_sdk._errors import ChatError
from chat_broker_sdk._version import __version__

from .checks import GOT_WRONG, HAS, LACKS, SKIPPED, Finding
from .runner import run

__all__ = ["Finding", "main", "run"]

_MARKS = {HAS: "has", LACKS: "lacks", GOT_WRONG: "WRONG", SKIPPED: "-"}


def table(findings: Sequence[Finding]) -> str:
    """The findings as text: one line for each check, and a summary."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    area = ""
    for finding in findings:
        if finding.area != area:
            area = finding.area
            lines += ["", area]
        note = f"  {finding.note}" if finding.note else ""
        lines.append(f"  {_MARKS[finding.verdict]:5}  {finding.name:{width}}{note}".rstrip())
    counts = {verdict: sum(each.verdict == verdict for each in findings) for verdict in _MARKS}
    total = f"{counts[HAS]} kept, {counts[LACKS]} not offered, {counts[GOT_WRONG]} wrong"
    if counts[SKIPPED]:
        total += f", {counts[SKIPPED]} not tried"
    return "\n".join([*lines, "", total]).lstrip("\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Exit code 0: nothing is wrong; 1: something is wrong; 2: the server could not be checked."""
    parser = argparse.ArgumentParser(prog="chat-broker-sdk", description=__doc__)
    parser.add_argument("--version", action="version", version=f"chat-broker-sdk {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser(
        "conformance",
        help="check a server against the contract",
        description="Creates users, rooms and messages named conformance-… in the key's project, and deletes the users "
        "and rooms afterwards. Use a project made for it.",
    )
    check.add_argument(
        "--base-url", default=os.environ.get("CHAT_BASE_URL"), help="or CHAT_BASE_URL"
    )
    check.add_argument(
        "--api-key",
        default=None,
        help="better: CHAT_API_KEY, since other users of this machine see a command's arguments",
    )
    check.add_argument("--no-socket", action="store_true", help="leave out the live connection")
    check.add_argument("--allow-http", action="store_true", help="plain http to a public host")
    options = parser.parse_args(arguments)
    if not options.base_url:
        parser.error("--base-url or CHAT_BASE_URL is needed")
    try:
        findings = asyncio.run(
            run(
                options.base_url,
                options.api_key,
                sockets=not options.no_socket,
                allow_http=options.allow_http,
            )
        )
    except ChatError as error:
        print(f"chat-broker-sdk: {error}", file=sys.stderr)  # noqa: T201 - a command
        return 2
    print(table(findings))  # noqa: T201 - a command
    return 1 if any(finding.verdict == GOT_WRONG for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
