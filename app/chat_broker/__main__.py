"""`python -m chat_broker` is `chat-broker serve`."""

import sys

from chat_broker.cli.start import serve

if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(serve())
    from chat_broker.cli.main import app

    app(["serve", *sys.argv[1:]], prog_name="python -m chat_broker")
