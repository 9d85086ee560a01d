"""A program as a user would write it, for the type checkers to judge. Never run: see test_types.py."""

from datetime import datetime
from typing import assert_type

from chat_broker_sdk import (
    AiohttpTransport,
    AsyncChatClient,
    AuthInfo,
    ChatClient,
    ChatUser,
    JoinedRoom,
    MemberEvent,
    Message,
    Page,
    ReadMark,
    Request,
    Response,
    RevokeReceipt,
    Room,
    Timeouts,
    Token,
    Transport,
)


class Mine:
    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109
        return Response(200, [("Content-Type", "application/json")], request.body or b"{}")

    async def aclose(self) -> None: ...


async def asynchronous() -> None:
    transport: Transport = Mine()
    async with AsyncChatClient("https://h", api_key="k", transport=transport) as client:
        user = await client.users.create(username="a", external_user_id="1", metadata={"a": 1})
        assert_type(user, ChatUser)
        assert_type(user.created_at, datetime | None)
        assert_type(await client.users.list(limit=1), Page[ChatUser])
        assert_type((await client.users.list()).items, tuple[ChatUser, ...])
        assert_type(await client.users.update("u", email=None, display_name="x"), ChatUser)
        assert_type(await client.users.generate_token("u", expires_in=60), Token)
        assert_type(await client.users.revoke_token("u"), RevokeReceipt)
        assert_type(await client.rooms.create(name="r", created_by="u", member_ids=("v",)), Room)
        assert_type(await client.rooms.mark_read("r", seq=1), ReadMark)
        assert_type(await client.messages.list("r", before=1), Page[Message])
        async for message in client.messages.iterate("r", after=1):
            assert_type(message, Message)
        raw = await client.with_raw_response(client.rooms.get, "r")
        assert_type(raw.value, Room)
        assert_type(raw.status, int)
        mine = client.with_options(timeout=Timeouts(total=3), retries=0).as_user("t")
        assert_type(mine, AsyncChatClient)
        assert_type(await mine.auth.verify(), AuthInfo)

        @mine.socket.on_message
        async def heard(message: Message) -> None:
            assert_type(message.seq, int | None)

        @mine.socket.on_user_typing
        def typing(event: MemberEvent) -> None:
            assert_type(event.room_id, str)

        await mine.socket.connect(lambda: client.users.generate_token("u"))
        assert_type(await mine.socket.join_room("r", since_seq=1), JoinedRoom)
        assert_type(await mine.socket.send_message("r", "x"), Message)
        await heard(await mine.socket.send_message("r", "x"))
        typing(MemberEvent(room_id="r", user_id="u"))


def synchronous() -> None:
    with ChatClient("https://h", api_key="k", transport=AiohttpTransport()) as client:
        assert_type(client.users.ensure("1"), ChatUser)
        for room in client.rooms.iterate(member_id="u"):
            assert_type(room, Room)
        assert_type(client.with_raw_response(client.users.get, "u").value, ChatUser)
        client.socket.connect(lambda: client.users.generate_token("u"))
        assert_type(client.socket.join_room("r"), JoinedRoom)


def mistakes(client: ChatClient) -> None:
    """Each of these is an error, and says so by its ignored code."""
    client.users.create(username="a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.users.get(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.messages.create("r", "x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.with_raw_response(client.users.get, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.users.get("u").username = "b"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
