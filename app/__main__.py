"""`python -m app` is `chat-broker serve`."""

import sys

from app.start import serve

if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(serve())
    from app.cli import app

    app(["serve", *sys.argv[1:]], prog_name="python -m app")
