"""API keys and the projects that they open.

A key reads `ck_<id>_<secret>`: the id finds its row, the secret is 256 random bits. Only the
SHA-256 of the whole key is stored; digests are compared in constant time, and an unknown id costs
the same comparison.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from functools import partial

import msgspec

from chat_broker_kit.database.transactions import Database, Query, Steps
from chat_broker_server.chat.ids import new_id, timestamp
from chat_broker_server.errors import BadInput, NotAuthenticated, NotFound

_SHAPE = re.compile(r"ck_([0-9a-f]{16})_[A-Za-z0-9_-]{43}")
_NO_DIGEST = "0" * 64
EMBEDDED = "default"


class ApiKey(msgspec.Struct, frozen=True):
    """The data of a key without its secret."""

    id: str
    project_id: str
    name: str
    created_at: str
    revoked_at: str | None


class Project(msgspec.Struct, frozen=True):
    """A project with the number of its valid keys."""

    id: str
    name: str
    created_at: str
    keys: int


class ApiKeys:
    """The API keys of all projects in one database, and the key of an embedding host."""

    def __init__(
        self, database: Database, *, embedded_key: str | None = None, embedded_project: str = ""
    ) -> None:
        self._database = database
        self._embedded = None if embedded_key is None else _sha256(embedded_key)
        self._embedded_project = embedded_project

    async def project_of(self, key: str) -> str:
        """The project that *key* opens. Raises NotAuthenticated `api_key_invalid`."""
        if self._embedded is not None and hmac.compare_digest(_sha256(key), self._embedded):
            return self._embedded_project
        digest = _digest(key)
        shape = _SHAPE.fullmatch(key)
        stored, pid = _NO_DIGEST, ""
        if shape:
            stored, pid = await self._database.read(partial(_find, shape[1]))
        if not hmac.compare_digest(digest.encode(), stored.encode()) or not pid:
            raise NotAuthenticated("api_key_invalid", "This API key opens nothing.")
        return pid

    async def create(self, pid: str, name: str) -> tuple[ApiKey, str]:
        """A new key for the project, and its text, which is not stored. Raises NotFound."""
        key_id, text = _new_key()
        stored = await self._database.write(partial(_insert, pid, key_id, name, _digest(text)))
        return stored, text

    async def list(self, pid: str | None = None) -> list[ApiKey]:
        """The keys of the project, or of all projects, including revoked ones. Raises NotFound."""
        return await self._database.read(partial(_list, pid))

    async def projects(self) -> Sequence[Project]:
        return await self._database.read(_projects)

    async def revoke(self, key_id: str) -> ApiKey:
        """Revoke a key for good. Raises NotFound."""
        return await self._database.write(partial(_revoke, key_id))

    async def create_project(self, name: str) -> tuple[str, str]:
        """A new project and its first key: project id and the key's text."""
        if not name.strip() or len(name) > 128 or not name.isprintable():
            raise BadInput.field("name", "must be 1 to 128 printable characters")
        pid = new_id()
        key_id, text = _new_key()
        await self._database.write(partial(_project_with_key, pid, name, key_id, _digest(text)))
        return pid, text

    async def embedded_project(self) -> str:
        """The id of the project for the embedded key. It is created once per database, with a random id.

        A broker that stored users under the project of another database therefore looks them up again.
        """
        on_postgres = self._database.name == "postgres"
        new_pid = f"{EMBEDDED}-{secrets.token_hex(8)}"
        return await self._database.write(partial(_embedded, new_pid, on_postgres))

    async def ensure_project(self, pid: str, name: str) -> None:
        """Create the project unless it exists."""
        await self._database.write(partial(_project, pid, name))


def _new_key() -> tuple[str, str]:
    key_id = secrets.token_hex(8)
    return key_id, f"ck_{key_id}_{secrets.token_urlsafe(32)}"


def _digest(key: str) -> str:
    return _sha256(key).hex()


def _sha256(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _find(key_id: str) -> Steps[tuple[str, str]]:
    rows = yield Query(
        "SELECT digest, project_id FROM api_keys WHERE id = $1 AND revoked_at IS NULL", key_id
    )
    return (rows[0][0], rows[0][1]) if rows else (_NO_DIGEST, "")


def _insert(pid: str, key_id: str, name: str, digest: str) -> Steps[ApiKey]:
    yield from _require_project(pid)
    now = timestamp()
    yield Query(
        "INSERT INTO api_keys (id, project_id, name, digest, created_at)"
        " VALUES ($1, $2, $3, $4, $5)",
        key_id,
        pid,
        name,
        digest,
        now,
    )
    return ApiKey(key_id, pid, name, now, None)


def _list(pid: str | None) -> Steps[list[ApiKey]]:
    sql = "SELECT id, project_id, name, created_at, revoked_at FROM api_keys"
    if pid is None:
        rows = yield Query(f"{sql} ORDER BY project_id, created_at, id")
    else:
        yield from _require_project(pid)
        rows = yield Query(f"{sql} WHERE project_id = $1 ORDER BY created_at, id", pid)
    return [ApiKey(*row) for row in rows]


def _require_project(pid: str) -> Steps[None]:
    if not (yield Query("SELECT 1 FROM projects WHERE id = $1", pid)):
        raise NotFound.project()


def _projects() -> Steps[Sequence[Project]]:
    rows = yield Query(
        "SELECT p.id, p.name, p.created_at, count(k.id) FROM projects p"
        " LEFT JOIN api_keys k ON k.project_id = p.id AND k.revoked_at IS NULL"
        " GROUP BY p.id, p.name, p.created_at ORDER BY p.created_at, p.id"
    )
    return [Project(*row) for row in rows]


def _revoke(key_id: str) -> Steps[ApiKey]:
    rows = yield Query(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1"
        " RETURNING id, project_id, name, created_at, revoked_at",
        key_id,
        timestamp(),
    )
    if not rows:
        raise NotFound("key_not_found", "There is no key with that id.")
    return ApiKey(*rows[0])


def _project(pid: str, name: str) -> Steps[None]:
    yield Query(
        "INSERT INTO projects (id, name, created_at) VALUES ($1, $2, $3)"
        " ON CONFLICT (id) DO NOTHING",
        pid,
        name,
        timestamp(),
    )


def _embedded(pid: str, on_postgres: bool) -> Steps[str]:
    existing = yield from _first_embedded()
    if existing is None and on_postgres:
        # Replicas that start together must create one project. SQLite has one writer anyway.
        yield Query("LOCK TABLE projects IN SHARE ROW EXCLUSIVE MODE")
        existing = yield from _first_embedded()
    if existing is None:
        yield from _project(pid, EMBEDDED)
    return existing or pid


def _first_embedded() -> Steps[str | None]:
    rows = yield Query(
        "SELECT id FROM projects WHERE id = $1 OR id LIKE $2 ORDER BY id LIMIT 1",
        EMBEDDED,
        f"{EMBEDDED}-%",
    )
    return str(rows[0][0]) if rows else None


def _project_with_key(pid: str, name: str, key_id: str, digest: str) -> Steps[None]:
    yield from _project(pid, name)
    yield from _insert(pid, key_id, "first", digest)
