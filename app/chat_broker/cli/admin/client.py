"""The client of the admin API for the commands: one connection, responses as dicts."""

import json
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
SECONDS = 30.0
BATCH = 5_000
_NDJSON = "application/x-ndjson"


class Unreachable(Exception):  # noqa: N818 - where the broker is, not what is wrong here
    """The broker did not respond, or the response is not a broker's."""


class Problem(Exception):  # noqa: N818 - the name of the response's format
    """The broker responded with an error: *status*, *code* and *message*."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{message} ({code}, {status})")
        self.status = status
        self.code = code
        self.message = message


class AdminClient:
    """Sends requests to a broker. Raises Unreachable or Problem; ValueError for a bad *url*."""

    def __init__(self, url: str, key: str | None) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError("CHAT_BROKER_URL must be an http(s) address")
        headers = {"Accept": "application/json"}
        if key is not None:
            # As bytes, so that the broker, not the client, refuses a key that is not ASCII.
            headers = headers | {"Authorization": f"Bearer {key.strip()}"}
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._user = ""  # the user of the last request, for a hint
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
        """A path under /admin. Raises Problem for a segment that no path can hold."""
        for segment in segments:
            if not segment or segment in {".", ".."}:
                raise Problem(404, "not_found", "There is nothing with that name.")
        return "/admin/" + "/".join(quote(segment, safe=":") for segment in segments)

    def user(self, name: str, *more: str) -> str:
        """The path of a user, or of what is below it."""
        self._user = name
        return self.path("users", name, *more)

    def get(self, path: str, **query: str | int | None) -> dict[str, Any]:
        """The response to GET. Parameters that are None are left out."""
        self._user = str(query.get("user") or self._user)
        parameters = {name: value for name, value in query.items() if value is not None}
        return self._parsed(self._request("GET", path, params=parameters))

    def send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        seconds: float = SECONDS,
    ) -> dict[str, Any]:
        """The response to a request with a body; empty for 204."""
        return self._parsed(self._request(method, path, json=body, timeout=seconds))

    def verify(self, token: str) -> dict[str, Any]:
        """The broker's response about a chat token, at the usual route prefix or at /api."""
        headers = {"Authorization": f"Bearer {token}"}
        try:
            return self._parsed(self._request("GET", "/chat/verify", headers=headers))
        except Problem as error:
            if error.status != 404:
                raise
        return self._parsed(self._request("GET", "/api/chat/verify", headers=headers))

    def audit_length(self) -> int:
        """The number of records in the audit chain."""
        return self._export({"limit": 1})[1]

    def audit(self, conditions: Mapping[str, str | None]) -> Iterator[tuple[dict[str, Any], int]]:
        """Every record of an export, oldest first, each with the length of the chain."""
        query: dict[str, str | int] = {name: text for name, text in conditions.items() if text}
        query["limit"] = BATCH
        while True:
            count = 0
            text, length = self._export(query)
            last: dict[str, Any] = {}
            for line in text.split("\n"):
                if line:
                    last = self._object(line)
                    count += 1
                    yield last, length
            if count < BATCH or not isinstance(last.get("seq"), int):
                return
            query["cursor"] = f"after-{last['seq']}"

    def _export(self, query: Mapping[str, str | int]) -> tuple[str, int]:
        """NDJSON of audit records, and the length of the chain."""
        headers = {"Accept": _NDJSON}
        response = self._request("GET", "/admin/audit", params=query, headers=headers)
        return response.text, int(response.headers.get("x-audit-length", "0"))

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TimeoutException:
            raise Unreachable(f"{self._http.base_url} did not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError):
            raise Unreachable(f"{self._http.base_url} cannot be reached") from None
        if response.status_code >= 300:
            raise self._problem(response)
        return response

    def _problem(self, response: httpx.Response) -> Exception:
        status = response.status_code
        try:
            problem = self._object(response.text)
        except Unreachable:
            return Problem(status, "http_error", f"HTTP {status}")
        message = str(problem.get("message") or problem.get("detail") or response.reason_phrase)
        code = str(problem.get("code") or "http_error")
        if code == "user_not_found" and self._user and ":" not in self._user:
            message += f" Did you mean external:{self._user}, the id in your app?"
        return Problem(status, code, message)

    def _parsed(self, response: httpx.Response) -> dict[str, Any]:
        return {} if response.status_code == 204 else self._object(response.text)

    def _object(self, text: str) -> dict[str, Any]:
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Unreachable(f"{self._http.base_url} does not answer like a broker")
        return value
