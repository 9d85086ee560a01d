"""`chat-broker serve` with aiohttp's client in place of our own: what our own is worth, in the same program at the same work.

No setting does this: the broker takes the cheapest client that is installed.
"""

import sys

import chat_broker.upstream.chat_api
from chat_broker.cli.launch import launch
from chat_broker_sdk import AiohttpTransport

if __name__ == "__main__":
    vars(chat_broker.upstream.chat_api)["_network"] = AiohttpTransport
    sys.exit(launch())
