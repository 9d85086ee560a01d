"""The `chat-broker` command as it is entered: `serve` goes straight on, everything else to `chat_broker.cli.main`."""

import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chat_broker.settings import Settings

BAD_SETTINGS = 2
DEVELOPMENT = "--development"


def main() -> None:
    """The entry point of the distribution."""
    if sys.argv[1:] in (["serve"], ["serve", DEVELOPMENT]):
        # What reads a command line takes as long to load as the settings do.
        sys.exit(serve(development=DEVELOPMENT in sys.argv))
    from chat_broker.cli.main import app

    app()


def serve(*, development: bool = False) -> int:
    """Run the broker, configured by the environment; answers the exit code.

    With *development*, what nobody has set is filled in for a try on one's own machine.
    """
    # What a start loads stays: to look for garbage in it again and again is a seventh of the time.
    # The server turns the collector on again when it is up.
    gc.disable()
    load_structlog()
    try:
        if development:
            from chat_broker.settings import fill_in_development

            fill_in_development()
        settings = settings_or_exit()
        from chat_broker.cli.serve import serve as run

        return run(settings)
    finally:
        gc.enable()


def load_structlog() -> None:
    """Load structlog without rich, which it would load for tracebacks that nobody here has drawn: a tenth of a start."""
    if "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # to an import, this says that there is none
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]


def settings_or_exit() -> "Settings":
    """The settings; or every problem on standard error, and exit code 2."""
    from chat_broker.settings import BadSettings, load_settings

    try:
        return load_settings(more_problems)
    except BadSettings as error:
        problems = error.problems
    sys.exit(refuse_to_start([*problems, *_misspelt_names()]))


def _misspelt_names() -> list[str]:
    from chat_broker.settings import Settings, name_warnings

    try:
        return name_warnings(Settings.model_fields)
    except (
        UnicodeDecodeError,
        OSError,
    ):  # a file that cannot be read is the problem that was found
        return []


def refuse_to_start(problems: list[str]) -> int:
    """Say on standard error why the broker does not run; answers the exit code."""
    print("The broker cannot start with these settings:", file=sys.stderr)  # noqa: T201 - this is the output
    for problem in problems:
        print(f"  {problem}", file=sys.stderr)  # noqa: T201
    return BAD_SETTINGS


def more_problems(settings: "Settings") -> list[str]:
    """What only those who use a setting can judge."""
    from chat_broker.auth.config import auth_problems
    from chat_broker.upstream.chat_api import upstream_problems

    return [*auth_problems(settings), *upstream_problems(settings)]
