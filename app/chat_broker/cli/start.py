"""The `chat-broker` command as it is entered: `serve` goes straight on, everything else to `chat_broker.cli.main`."""

import sys
from collections.abc import Sequence

from chat_broker.cli.launch import DEVELOPMENT, launch


def main() -> None:
    """The entry point of the distribution."""
    run(sys.argv[1:])


def run_module(name: str) -> None:
    """The entry point of `python -m` *name*: the same command; without a subcommand, it serves."""
    arguments = sys.argv[1:]
    if arguments in ([], [DEVELOPMENT]):
        arguments = ["serve", *arguments]
    run(arguments, f"python -m {name}")


def run(arguments: Sequence[str], program: str | None = None) -> None:
    """Carry out the command line and exit. *program*: what help texts call it; None: as it was started."""
    if list(arguments) in (["serve"], ["serve", DEVELOPMENT]):
        sys.exit(launch(development=DEVELOPMENT in arguments))
    # What reads a command line takes as long to load as the settings do.
    from chat_broker.cli.main import app

    app(list(arguments), prog_name=program)
