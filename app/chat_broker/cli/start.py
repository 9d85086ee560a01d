"""Entry points of the `chat-broker` command. `serve` starts directly; other commands go to `chat_broker.cli.main`."""

import sys
from collections.abc import Sequence

from chat_broker.cli.launch import DEVELOPMENT, launch


def main() -> None:
    """The entry point of the distribution."""
    run(sys.argv[1:])


def run_module(name: str) -> None:
    """The entry point of `python -m` *name*, which serves unless it gets another subcommand."""
    arguments = sys.argv[1:]
    if arguments in ([], [DEVELOPMENT]):
        arguments = ["serve", *arguments]
    run(arguments, f"python -m {name}")


def run(arguments: Sequence[str], program: str | None = None) -> None:
    """Run the command line and exit. *program*: the name in help texts; None: the name of the executable."""
    if list(arguments) in (["serve"], ["serve", DEVELOPMENT]):
        sys.exit(launch(development=DEVELOPMENT in arguments))
    # typer takes as long to load as the settings do, and `serve` needs none of it.
    from chat_broker.cli.main import app

    app(list(arguments), prog_name=program)
