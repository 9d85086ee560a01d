"""A Socket.IO server that does as it is told, for tests of the live connection."""

import asyncio
import socket as sockets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import socketio
import uvicorn


class FakeSockets:
    """Rooms with numbered messages; refuses, drops, repeats and reorders on command."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins=[])
        self.tokens: list[str] = []
        self.queries: list[str] = []
        self.refuse: list[dict[str, Any]] = []
        self.asked: list[tuple[str, tuple[Any, ...]]] = []
        self.said: dict[str, list[dict[str, Any]]] = {}
        self.by_client_id: dict[str, dict[str, Any]] = {}
        self.inside: dict[str, set[str]] = {}
        self.silent: set[str] = set()
        self.names: dict[str, str] = {}
        self.says_at_join = 0
        self.telling: asyncio.Future[None] | None = None
        self.refuse_joins: list[str] = []
        self.lose_answer_to: list[str] = []
        self.missed_limit = 100
        self.lines: list[tuple[asyncio.Transport, asyncio.Transport]] = []
        self.held: bytes | None = None
        self.url = ""
        self.sio.on("connect", self._connect)
        self.sio.on("*", self._event)

    async def _connect(self, sid: str, environ: dict[str, Any], auth: dict[str, Any]) -> None:
        self.tokens.append(auth["token"])
        self.queries.append(environ.get("QUERY_STRING", ""))
        if self.refuse:
            said = self.refuse.pop(0)
            raise socketio.exceptions.ConnectionRefusedError(said["message"], said)

    async def _event(self, event: str, sid: str, *args: Any) -> Any:
        self.asked.append((event, args))
        if event in self.silent:
            await asyncio.sleep(60)
        answer = getattr(self, f"_{event}", self._anything)(sid, *args)
        if event in self.lose_answer_to:
            self.lose_answer_to.remove(event)
            await self.cut_all()
            await asyncio.sleep(60)
        return answer

    def _anything(self, sid: str, *args: Any) -> Any:
        return {"ok": True}

    def _joinRoom(self, sid: str, what: Any) -> Any:  # noqa: N802 - the wire's name
        room_id, since = (
            (what["roomId"], what["sinceSeq"]) if isinstance(what, dict) else (what, None)
        )
        room_id = self.names.get(room_id, room_id)
        if room_id not in self.said:
            return {"ok": False, "error": {"code": "room_not_found", "message": "no such room"}}
        if self.refuse_joins:
            code = self.refuse_joins.pop(0)
            return {"ok": False, "error": {"code": code, "message": "not now"}}
        self.inside.setdefault(room_id, set()).add(sid)
        said = self.said[room_id]
        missed = [] if since is None else [each for each in said if each["seq"] > since]
        last_seq = len(said)
        if self.says_at_join:
            self.says_at_join -= 1
            self.telling = asyncio.ensure_future(self.say(room_id))
        return {
            "ok": True,
            "room": {"id": room_id, "name": room_id},
            "members_online": 1,
            "last_seq": last_seq,
            "missed": missed[: self.missed_limit],
        }

    def _leaveRoom(self, sid: str, room_id: str) -> Any:  # noqa: N802
        self.inside[room_id].discard(sid)
        return {"ok": True}

    def _sendMessage(self, sid: str, draft: dict[str, Any]) -> Any:  # noqa: N802
        known = self.by_client_id.get(draft["clientMsgId"])
        if known is None:
            known = self.write(draft["roomId"], draft["content"])
            self.by_client_id[draft["clientMsgId"]] = known
        return {"ok": True, "message": known}

    def _markRead(self, sid: str, mark: dict[str, Any]) -> Any:  # noqa: N802
        return {"ok": True, "last_read_seq": mark["seq"], "unread": 0}

    def _refreshToken(self, sid: str, what: dict[str, Any]) -> Any:  # noqa: N802
        self.tokens.append(what["token"])
        return {"ok": True, "expires_at": "2030-01-01T00:00:00Z"}

    # -- commands --------------------------------------------------------------------------------

    def room(self, room_id: str, messages: int = 0) -> None:
        self.said[room_id] = []
        for _ in range(messages):
            self.write(room_id)

    def write(self, room_id: str, content: str = "x") -> dict[str, Any]:
        """Store a message, and tell nobody."""
        seq = len(self.said[room_id]) + 1
        message = {"id": f"{room_id}-{seq}", "room_id": room_id, "seq": seq, "content": content}
        self.said[room_id].append(message)
        return message

    async def say(self, room_id: str) -> None:
        """Store a message and tell everybody in the room."""
        message = self.write(room_id)
        for sid in tuple(self.inside.get(room_id, ())):
            await self.sio.emit("message", message, to=sid)

    async def emit(self, event: str, payload: Any) -> None:
        await self.sio.emit(event, payload)

    async def cut_all(self) -> None:
        """Break every connection without a word, as a dying router would."""
        lines, self.lines = self.lines, []
        for line in lines:
            for end in line:
                end.abort()
        self.inside.clear()
        await asyncio.sleep(0)

    async def send_away_at_once(self, code: str, **more: Any) -> None:
        """As the embedded server does: why, the end of Engine.IO and that of the websocket, read in one go."""
        self.held = b""
        for sid in self.sids():
            said = {"code": code, "message": code.replace("_", " "), "closing": True, **more}
            await self.sio.emit("error", said, to=sid)
            await self.sio.eio.disconnect(self.sio.manager.eio_sid_from_sid(sid, "/"))
        while b"\x81\x011" not in self.held:  # noqa: ASYNC110 - Engine.IO's close, on its way
            await asyncio.sleep(0.005)
        held, self.held = self.held, None
        for to_client, to_server in self.lines:
            to_client.write(held + b"\x88\x02\x03\xe8")  # and the websocket's
            to_client.close()
            to_server.abort()
        self.lines.clear()
        self.inside.clear()

    def hold(self, data: bytes) -> bool:
        """Keep *data* on its way to a client back, if that is wanted."""
        if self.held is None:
            return False
        self.held += data
        return True

    def sids(self) -> list[str]:
        return [sid for sid, _ in self.sio.manager.get_participants("/", None)]

    async def send_away(self, code: str, **more: Any) -> None:
        """Say why, then disconnect everybody."""
        for sid in self.sids():
            said = {"code": code, "message": code.replace("_", " "), "closing": True, **more}
            await self.sio.emit("error", said, to=sid)
            await self.sio.disconnect(sid)


async def _pump(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    hold: Callable[[bytes], bool] = lambda _: False,
) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            if not hold(data):
                writer.write(data)
                await writer.drain()
    writer.close()


@asynccontextmanager
async def fake_sockets() -> AsyncIterator[FakeSockets]:
    """The server behind a line of bytes that can be cut."""
    fake = FakeSockets()
    with sockets.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            socketio.ASGIApp(fake.sio),
            log_level="critical",
            lifespan="off",
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            fake.lines.append((writer.transport, back.transport))
            await asyncio.gather(_pump(reader, back), _pump(there, writer, fake.hold))

        line = await asyncio.start_server(carry, "127.0.0.1", 0)
        fake.url = f"http://127.0.0.1:{line.sockets[0].getsockname()[1]}"
        try:
            yield fake
        finally:
            line.close()
            await fake.cut_all()
            await fake.sio.shutdown()
            server.should_exit = True
            await serving
