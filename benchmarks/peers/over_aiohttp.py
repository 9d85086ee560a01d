"""`chat-broker serve` with aiohttp's client in place of our own: what our own is worth, in the same program at the same work.

No setting does this: the broker takes the cheapest client that is installed.
"""

import sys

import app.upstream
from app.start import serve
from chat_sdk import AiohttpTransport

if __name__ == "__main__":
    vars(app.upstream)["_network"] = AiohttpTransport
    sys.exit(serve())
