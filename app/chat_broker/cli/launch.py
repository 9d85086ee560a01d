"""Starts the broker, and loads only modules that it uses."""

import gc
import sys

from chat_broker.cli.checked_settings import settings_or_exit

DEVELOPMENT = "--development"


def launch(*, development: bool = False) -> int:
    """Run the broker, configured by the environment. Returns the exit code.

    *development*: set missing settings for a try on a developer's machine.
    """
    # Collections during the start take a seventh of its time and find nothing: modules stay.
    # `AppFactory` turns the collector on again.
    gc.disable()
    load_structlog()
    try:
        if development:
            # Not at the top: it has to load with the collector off.
            from chat_broker.settings import fill_in_development

            fill_in_development()
        settings = settings_or_exit()
        # Not at the top: with bad settings the server is never needed.
        from chat_broker.cli.serve import serve

        return serve(settings)
    finally:
        gc.enable()


def load_structlog() -> None:
    """Load structlog without rich, which it uses for tracebacks that we format otherwise: a tenth of a start."""
    if "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # an import then fails as if rich were not installed
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
