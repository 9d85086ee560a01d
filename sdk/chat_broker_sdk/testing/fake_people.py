"""What users of the fake Chat API set about themselves, whom they block, and how they find each other."""

import unicodedata
from collections.abc import Callable
from typing import Any

from .fake_store import FakeStore, Json, Problem, Seen, number

MOST_BLOCKS = 1000
MOST_FOUND = 20
PUBLIC = ("id", "username", "display_name", "avatar_url")
"""The fields of a user that others see."""

_SETTINGS: dict[str, tuple[Any, Callable[[Any], bool]]] = {
    "presence": ("visible", lambda value: value in ("visible", "hidden")),
    "receipts": (True, lambda value: isinstance(value, bool)),
    "notify": (None, lambda value: value in ("all", "mentions", "none", None)),
    "push_preview": (True, lambda value: isinstance(value, bool)),
}
"""The default of each setting, and what it may be."""


def settings(store: FakeStore, user_id: str) -> Json:
    """All settings of the user."""
    store.user(user_id)
    return {name: default for name, (default, _) in _SETTINGS.items()} | store.settings.get(
        user_id, {}
    )


def update_settings(store: FakeStore, user_id: str, body: Json) -> Json:
    """Change the settings that *body* has."""
    store.user(user_id)
    for name, value in body.items():
        if name not in _SETTINGS or not _SETTINGS[name][1](value):
            raise Problem(400, "bad_request", field=name)
    store.settings.setdefault(user_id, {}).update(body)
    return settings(store, user_id)


def block(store: FakeStore, user_id: str, other_id: str) -> None:
    """Block a user. 409 beyond MOST_BLOCKS."""
    store.user(user_id)
    if user_id == other_id:
        raise Problem(400, "bad_request", field="user")
    if other_id not in store.users:
        raise Problem(404, "user_not_found")
    blocked = store.blocks.setdefault(user_id, set())
    if other_id in blocked:
        return
    if len(blocked) >= MOST_BLOCKS:
        raise Problem(409, "too_many_blocks")
    blocked.add(other_id)
    _grow(store, user_id)


def unblock(store: FakeStore, user_id: str, other_id: str) -> None:
    """End a block, if there is one."""
    store.user(user_id)
    if other_id in store.blocks.get(user_id, ()):
        store.blocks[user_id].remove(other_id)
        _grow(store, user_id)


def _grow(store: FakeStore, user_id: str) -> None:
    store.versions[user_id] = store.versions.get(user_id, 0) + 1
    store.tell_reload(user_id)


def blocks(store: FakeStore, user_id: str) -> list[Json]:
    """Whom the user blocks, as others see them."""
    store.user(user_id)
    there = (store.users.get(other_id) for other_id in sorted(store.blocks.get(user_id, ())))
    return [public(user) for user in there if user is not None]


def public(user: Json) -> Json:
    """What others see of the user."""
    return {name: user[name] for name in PUBLIC}


def directory(store: FakeStore, request: Seen, user_id: str) -> Json:
    """Users whose username or display name begins with `q`."""
    store.user(user_id)
    begin, limit = folded(request.query.get("q", "")), number(request, "limit", MOST_FOUND)
    if not begin:
        raise Problem(400, "bad_request", field="q")
    if not 1 <= limit <= MOST_FOUND:
        raise Problem(400, "bad_request", field="limit")
    found = [
        (name, user["id"], user)
        for user in store.users.values()
        if user["status"] == "active" and user_id not in store.blocks.get(user["id"], ())
        for name in (folded(user["username"]), folded(user["display_name"] or ""))
        if name.startswith(begin)
    ]
    users = {one_id: public(user) for _, one_id, user in sorted(found, key=lambda one: one[:2])}
    return {"items": list(users.values())[:limit]}


def folded(text: str) -> str:
    """*text* without case, width and accents, as the Chat API compares names."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
