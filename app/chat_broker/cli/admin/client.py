"""The admin API as the command line sees it: one connection, plain dicts, two kinds of failure."""

import json
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
SECONDS = 30.0
BATCH = 5_000
_NDJSON = "application/x-ndjson"


class Unreachable(Exception):  # noqa: N818 - where the broker is, not what is wrong here
    """The broker did not answer, or not like a broker."""


class Problem(Exception):  # noqa: N818 - the answer's own name
    """The broker refused. Holds *status*, *code* and the *message* it gave."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{message} ({code}, {status})")
        self.status = status
        self.code = code
        self.message = message


class AdminClient:
    """Calls a broker. Raises Unreachable and Problem; ValueError for an address that is none."""

    def __init__(self, url: str, key: str | None) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError("CHAT_BROKER_URL must be an http(s) address")
        headers = {"Accept": "application/json"}
        if key is not None:
            # As bytes: a key that is not ASCII is for the broker to refuse, not for the client to choke on.
            headers = headers | {"Authorization": f"Bearer {key.strip()}"}
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._user = ""  # who the last call was about, for a hint
        self._http = httpx.Client(
            base_url=url.rstrip("/"), headers=encoded, timeout=SECONDS, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def path(self, *segments: str) -> str:
        """A path under /admin. Raises Problem for a segment that cannot be one."""
        for segment in segments:
            if not segment or segment in {".", ".."}:
                raise Problem(404, "not_found", "There is nothing with that name.")
        return "/admin/" + "/".join(quote(segment, safe=":") for segment in segments)

    def user(self, name: str, *more: str) -> str:
        """The path of a user."""
        self._user = name
        return self.path("users", name, *more)

    def get(self, path: str, **query: str | int | None) -> dict[str, Any]:
        """What GET answers; parameters that are None are left out."""
        self._user = str(query.get("user") or self._user)
        asked = {name: value for name, value in query.items() if value is not None}
        return self._parsed(self._call("GET", path, params=asked))

    def send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        seconds: float = SECONDS,
    ) -> dict[str, Any]:
        """What a call that changes something answers; nothing is an empty dict."""
        return self._parsed(self._call(method, path, json=body, timeout=seconds))

    def verify(self, token: str) -> dict[str, Any]:
        """What the broker says of a chat token; asks at the usual place and below /api."""
        headers = {"Authorization": f"Bearer {token}"}
        try:
            return self._parsed(self._call("GET", "/chat/verify", headers=headers))
        except Problem as error:
            if error.status != 404:
                raise
        return self._parsed(self._call("GET", "/api/chat/verify", headers=headers))

    def audit_length(self) -> int:
        """How many records the chain has, as the broker counts them when it writes."""
        answer = self._call("GET", "/admin/audit", params={"limit": 1}, headers={"Accept": _NDJSON})
        return int(answer.headers.get("x-audit-length", "0"))

    def audit(self, asked: dict[str, str | None]) -> Iterator[tuple[dict[str, Any], int]]:
        """Every record of an export, oldest first, each with the length of the chain."""
        query: dict[str, str | int] = {name: text for name, text in asked.items() if text}
        query["limit"] = BATCH
        while True:
            count = 0
            answer = self._call("GET", "/admin/audit", params=query, headers={"Accept": _NDJSON})
            length = int(answer.headers.get("x-audit-length", "0"))
            last: dict[str, Any] = {}
            for line in answer.text.split("\n"):
                if line:
                    last = self._object(line)
                    count += 1
                    yield last, length
            if count < BATCH or not isinstance(last.get("seq"), int):
                return
            query["cursor"] = f"after-{last['seq']}"

    def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **options)
        except httpx.TimeoutException:
            raise Unreachable(f"{self._http.base_url} did not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError):
            raise Unreachable(f"{self._http.base_url} cannot be reached") from None
        if answer.status_code >= 300:
            raise self._problem(answer)
        return answer

    def _problem(self, answer: httpx.Response) -> Exception:
        try:
            told = self._object(answer.text)
        except Unreachable:
            return Problem(answer.status_code, "http_error", f"HTTP {answer.status_code}")
        message = str(told.get("message") or told.get("detail") or answer.reason_phrase)
        code = str(told.get("code") or "http_error")
        if code == "user_not_found" and self._user and ":" not in self._user:
            message += f" Did you mean external:{self._user}, the id in your app?"
        return Problem(answer.status_code, code, message)

    def _parsed(self, answer: httpx.Response) -> dict[str, Any]:
        return {} if answer.status_code == 204 else self._object(answer.text)

    def _object(self, text: str) -> dict[str, Any]:
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Unreachable(f"{self._http.base_url} does not answer like a broker")
        return value
