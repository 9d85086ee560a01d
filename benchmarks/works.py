"""The pieces of work that are compared, and who takes part in each."""

import json

from . import stub, targets
from .compare import Ask, Contender, Work, send
from .ground import Ground, NotAvailable, Running

USERS = [f"user{number}" for number in range(48)]
SAY = json.dumps({"content": "See you at noon? I will bring the drawings and the coffee."}).encode()
OURS = "broker"
EMBEDDED = "broker, embedded"
LIMIT = "nginx (no token check)"
PEER = "Fastify"
TUTORIAL = "FastAPI + httpx, tutorial"
STORE_PEER = "Fastify + better-sqlite3"
PYTHON_LIMIT = "Python's limit (no token check)"
OVER_AIOHTTP = "broker, aiohttp's client"
ONE_CALL = "nothing but one upstream call"
NO_CALL = "nothing at all, in Python"

_NODE_WARM = 8.0  # before that V8 is still compiling, and the numbers are unfair

_broker = Contender(OURS, targets.broker_remote)
_over_aiohttp = Contender(OVER_AIOHTTP, targets.broker_over_aiohttp)
_no_fast_path = Contender("broker, no fast path", targets.broker_without_fast_path)
_no_header_cache = Contender("broker, no header cache", targets.broker_without_header_cache)
_nginx = Contender(LIMIT, targets.nginx, warm=1.0, checks=False)
_fastify = Contender(PEER, targets.fastify, warm=_NODE_WARM)
_fastify_no_cache = Contender(
    "Fastify, no token cache", targets.fastify_without_cache, warm=_NODE_WARM
)
_fastify_watched = Contender(
    "Fastify, with log, metrics, limit", targets.fastify_watched, warm=_NODE_WARM
)
_node = Contender("Node's ceiling", targets.node_ceiling, warm=_NODE_WARM)
_express = Contender("Express", targets.express, warm=_NODE_WARM)
_tutorial = Contender(TUTORIAL, targets.tutorial)
_store = Contender(STORE_PEER, targets.fastify_store, warm=_NODE_WARM)
_embedded = Contender(EMBEDDED, targets.broker_embedded)
_python = Contender(PYTHON_LIMIT, targets.python_limit, warm=0.5, checks=False)
_one_call = Contender(ONE_CALL, targets.one_call, warm=0.5, checks=False)
_no_call = Contender(NO_CALL, targets.no_call, warm=0.5, checks=False)


def read(ground: Ground, _: Running) -> list[Ask]:
    """A page of messages, by forty-eight users in turn."""
    return [Ask("GET", "/chat/rooms/room-1/messages", ground.token(user)) for user in USERS]


def write(ground: Ground, _: Running) -> list[Ask]:
    """One message each."""
    return [Ask("POST", "/chat/rooms/room-1/messages", ground.token(user), SAY) for user in USERS]


def mint(ground: Ground, _: Running) -> list[Ask]:
    """A fresh chat token each time."""
    return [Ask("GET", "/chat/token", ground.token(user)) for user in USERS]


def verify(_: Ground, __: Running) -> list[Ask]:
    """Verification of one chat token."""
    return [Ask("GET", "/chat/verify", stub.CHAT_TOKEN)]


def store_write(ground: Ground, running: Running) -> list[Ask]:
    """One message each, into a room that exists in the target's own database."""
    room = "room-1" if running.name.endswith(".mjs") else our_room(ground, running)
    return [Ask("POST", f"/chat/rooms/{room}/messages", ground.token(user), SAY) for user in USERS]


def store_read(ground: Ground, running: Running) -> list[Ask]:
    """The newest page of that room."""
    room = "room-1" if running.name.endswith(".mjs") else our_room(ground, running)
    return [Ask("GET", f"/chat/rooms/{room}/messages", ground.token(user)) for user in USERS]


def our_room(ground: Ground, running: Running) -> str:
    """A room of our embedded Chat API with every user of the benchmark in it, made once."""
    if "room" not in running.facts:
        body = json.dumps({"name": "General"}).encode()
        status, answer = send(
            running.port, Ask("POST", "/chat/rooms", ground.token(USERS[0]), body)
        )
        if status != 201:
            raise NotAvailable(f"no room could be made: {status} {answer[:200]!r}")
        room = json.loads(answer)["id"]
        for user in USERS:
            status, answer = send(
                running.port, Ask("POST", f"/chat/rooms/{room}/join", ground.token(user))
            )
            if status != 200:
                raise NotAvailable(f"a room could not be joined: {status} {answer[:200]!r}")
        running.facts["room"] = room
    return running.facts["room"]


def is_page(value: object) -> bool:
    """The stub's six messages, in its order, each with what it says."""
    if not isinstance(value, dict):
        return False
    got = [(item["id"], item["seq"], item["content"]) for item in value["items"]]
    return got == [(item["id"], item["seq"], item["content"]) for item in stub.MESSAGES["items"]]


def is_message(value: object) -> bool:
    """A message with what was said."""
    return isinstance(value, dict) and "coffee" in value["content"] and value["seq"] >= 1


def has_messages(value: object) -> bool:
    """A page of what was said."""
    return isinstance(value, dict) and all(is_message(item) for item in value["items"])


def is_token(value: object) -> bool:
    """A bearer token."""
    return isinstance(value, dict) and value["token"].count(".") == 2


def is_verified(value: object) -> bool:
    """The stub's response about its token."""
    return (
        isinstance(value, dict) and value["valid"] is True and value["user"]["userId"] == "u-alice"
    )


READ = Work(
    "read",
    "Proxied GET of messages (1.6 KB, app token checked, 32 connections)",
    [
        _nginx,
        _python,
        _node,
        _fastify,
        _fastify_watched,
        _fastify_no_cache,
        _express,
        _tutorial,
        _broker,
    ],
    read,
    200,
    is_page,
)
WRITE = Work(
    "write",
    "Proxied POST of a message",
    [_nginx, _node, _fastify, _fastify_watched, _express, _tutorial, _broker],
    write,
    201,
    is_message,
)
CLIENT = Work(
    "client",
    "Proxied GET of messages: our HTTP client beside aiohttp's, in the same broker",
    [_over_aiohttp, _broker],
    read,
    200,
    is_page,
)
FAST_PATH = Work(
    "fast-path",
    "Proxied GET of messages: without the fast path, and without its header cache",
    [_no_fast_path, _no_header_cache, _broker],
    read,
    200,
    is_page,
)
LATENCY = Work(
    "latency",
    "Proxied GET, one connection",
    [_nginx, _fastify, _broker],
    read,
    200,
    is_page,
    connections=1,
)
# The token of `verify` is the chat token, so the app's bad tokens are not the ones to try here.
VERIFY = Work(
    "verify",
    "GET /chat/verify, proxied",
    [
        Contender(_nginx.name, _nginx.start, 1.0, checks=False),
        Contender(_fastify.name, _fastify.start, _NODE_WARM, checks=False),
        Contender(_tutorial.name, _tutorial.start, 2.0, checks=False),
        Contender(_broker.name, _broker.start, 2.0, checks=False),
    ],
    verify,
    200,
    is_verified,
)
# What one upstream call costs is what the SDK's transport adds to a program that answers and does nothing else.
TOKEN = Work(
    "token",
    "GET /chat/token: a fresh token each time, user read from SQLite (remote: one upstream call)",
    [_no_call, _one_call, _store, _embedded, _broker],
    mint,
    200,
    is_token,
)
STORE = Work(
    "store",
    "A message written to SQLite and on disk (synchronous=FULL), 32 writers",
    [_store, _embedded],
    store_write,
    201,
    is_message,
)
STORE_READ = Work(
    "store-read",
    "The newest 50 messages, read from SQLite",
    [_store, _embedded],
    store_read,
    200,
    has_messages,
)

# Reading comes before writing: both stores are then asked for a room that is equally full.
ASKED_FOR = (FAST_PATH,)
"""Only in the long report, or for this key."""
ALL = (READ, WRITE, CLIENT, LATENCY, VERIFY, TOKEN, STORE, STORE_READ)
