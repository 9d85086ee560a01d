"""`python -m app` is `chat-broker serve`."""

import sys

from app.cli import app

if __name__ == "__main__":
    app(["serve", *sys.argv[1:]], prog_name="python -m app")
