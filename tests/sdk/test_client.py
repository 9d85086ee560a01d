"""The client over a Chat API in memory: surface, credentials, copies, errors, retries."""

import asyncio

import msgspec
import pytest

from chat_broker_sdk import (
    HOSTED_URL,
    AsgiTransport,
    AsyncChatClient,
    AuthenticationError,
    ChatClient,
    ChatError,
    CircuitOpenError,
    ConfigurationError,
    ConflictError,
    Dialect,
    Message,
    NetworkError,
    NotFoundError,
    RateLimitError,
    Request,
    Response,
    Routes,
    ServerError,
    Timeouts,
    UnsupportedOperationError,
    ValidationError,
)
from chat_broker_sdk._transports.base import connections_in_use
from chat_broker_sdk.testing import FakeChatApi
from tests.sdk.conftest import KEY


async def test_the_readme_of_the_typescript_sdk_works_word_for_word(
    client: AsyncChatClient,
) -> None:
    user = await client.users.create(
        username="johndoe", external_user_id="user_12345", display_name="John Doe"
    )
    token = await client.users.generate_token(user.id)
    room = await client.rooms.create(name="General Chat", created_by=user.id)
    message = await client.messages.create(room.id, content="Hello, world!", user_id=user.id)
    assert (message.content, message.username, message.seq) == ("Hello, world!", "johndoe", 1)
    page = await client.users.list(page=1, limit=50)
    assert (page.items, page.page, page.total, page.total_pages) == ((user,), 1, 1, 1)
    me = client.as_user(token.token)
    assert (await me.auth.verify()).user.user_id == user.id
    assert (await client.users.update(user.id, display_name="New")).display_name == "New"
    assert (await client.rooms.list(page=1, limit=20)).items[0].id == room.id
    assert (await client.rooms.get(room.id)).member_count == 1
    assert (await client.messages.list(room.id, page=1, limit=50)).items == (message,)
    await client.users.revoke_token(user.id)
    with pytest.raises(AuthenticationError) as caught:
        await me.auth.verify()
    assert caught.value.code == "token_revoked"
    await client.users.delete(user.id)
    with pytest.raises(NotFoundError):
        await client.users.get(user.id)


async def test_members_edits_and_read_marks(client: AsyncChatClient) -> None:
    ann = await client.users.create(username="ann", external_user_id="1")
    bob = await client.users.create(username="bob", external_user_id="2")
    room = await client.rooms.create(name="r", created_by=ann.id, private=True)
    assert (await client.rooms.join(room.id, user_id=bob.id)).role == "member"
    assert (await client.rooms.put_member(room.id, bob.id, role="owner")).role == "owner"
    assert [each.username async for each in client.rooms.iterate_members(room.id)] == ["ann", "bob"]
    assert (await client.rooms.member(room.id, bob.id)).user_id == bob.id
    said = await client.messages.create(room.id, content="a", user_id=ann.id)
    edited = await client.messages.update(room.id, said.id, content="b")
    assert (edited.content, edited.seq) == ("b", 1)
    assert edited.edited_at is not None
    assert (await client.rooms.mark_read(room.id, seq=1, user_id=bob.id)).unread == 0
    await client.messages.delete(room.id, said.id)
    assert (await client.messages.list(room.id)).items[0].content == ""
    await client.rooms.leave(room.id, user_id=bob.id)
    with pytest.raises(NotFoundError):
        await client.rooms.member(room.id, bob.id)
    await client.rooms.remove_member(room.id, ann.id)
    assert (await client.rooms.update(room.id, name="s", description=None)).name == "s"
    await client.rooms.delete(room.id)


async def test_the_project_is_asked_for_once_by_many_calls(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    fake_chat.delay(0.05, on="/project")
    await asyncio.gather(*(client.users.list() for _ in range(50)))
    assert fake_chat.count("/project$") == 1


async def test_a_cancelled_first_call_leaves_the_project_to_the_next(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    fake_chat.delay(5, on="/project")
    first = asyncio.create_task(client.users.list())
    second = asyncio.create_task(client.users.list())
    while not fake_chat.seen:  # noqa: ASYNC110 - the fake has no event to wait for
        await asyncio.sleep(0)
    first.cancel()
    assert (await second).total == 0
    with pytest.raises(asyncio.CancelledError):
        await first


# -- credentials ----------------------------------------------------------------------------------


def test_some_credential_is_needed() -> None:
    with pytest.raises(ConfigurationError) as caught:
        AsyncChatClient("https://chat.test")
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("kind", [AsyncChatClient, ChatClient])
@pytest.mark.parametrize("credential", ["api_key", "jwt_token"])
def test_an_address_is_needed(
    monkeypatch: pytest.MonkeyPatch, kind: type[ChatClient], credential: str
) -> None:
    """A secret goes where somebody said, and to no address of ours; the public server has to be named."""
    monkeypatch.delenv("CHAT_BASE_URL", raising=False)
    with pytest.raises(ConfigurationError, match="set CHAT_BASE_URL") as caught:
        kind(**{credential: "sesame"})
    assert caught.value.code == "no_base_url"
    assert "sesame" not in str(caught.value)
    assert HOSTED_URL in repr(kind(base_url=HOSTED_URL, **{credential: "sesame"}))


def test_the_environment_gives_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_API_KEY", "k")
    monkeypatch.setenv("CHAT_BASE_URL", "https://chat.test/base")
    assert repr(ChatClient()) == "<ChatClient https://chat.test/base>"
    assert ChatClient()._api.key is not None
    assert ChatClient(jwt_token="t")._api.key is None, "a user's client takes no key along"


async def test_a_token_alone_speaks_for_one_user_and_needs_no_key(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    ann = await client.users.create(username="ann", external_user_id="1")
    token = await client.users.generate_token(ann.id)
    room = await client.rooms.create(name="r", created_by=ann.id)
    fake_chat.seen.clear()
    async with fake_chat.client(jwt_token=token.token) as mine:
        assert (await mine.project()).id == fake_chat.store.project_id
        assert (await mine.messages.create(room.id, content="hi")).user_id == ann.id
        with pytest.raises(AuthenticationError) as caught:
            await mine.users.list()
    assert caught.value.code == "api_key_required"
    assert all("x-api-key" not in each.headers for each in fake_chat.seen)


async def test_a_copy_for_a_user_changes_nothing_in_the_original(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    """Two users' calls at the same time each carry their own token, and the key stays with the original."""
    people = [
        await client.users.create(username=f"u{number}", external_user_id=str(number))
        for number in range(8)
    ]
    tokens = [(await client.users.generate_token(each.id)).token for each in people]
    copies = [client.as_user(token) for token in tokens]
    for _ in range(5):
        found = await asyncio.gather(*(copy.auth.verify() for copy in copies))
        assert [each.user.user_id for each in found] == [each.id for each in people]
    assert (await client.users.list()).total == 8
    verifies = [each for each in fake_chat.seen if each.path.endswith("/verify")]
    assert all("x-api-key" not in each.headers for each in verifies)
    for copy in copies:
        await copy.aclose()
    assert (await client.users.list()).total == 8, "closing a copy closes no connection"


async def test_set_jwt_token_and_set_base_url(fake_chat: FakeChatApi) -> None:
    client = fake_chat.client()
    with pytest.raises(AuthenticationError):
        await client.auth.verify()
    ann = await client.users.create(username="ann", external_user_id="1")
    client.set_jwt_token((await client.users.generate_token(ann.id)).token)
    assert (await client.auth.verify()).user.username == "ann"
    client.set_base_url("https://elsewhere.test")
    with pytest.raises(ConfigurationError):
        client.set_base_url("https://u:p@elsewhere.test")
    await client.users.list()
    assert fake_chat.seen[-1].headers["host"] == "elsewhere.test"
    assert fake_chat.count("/project$") == 2, "another server, another project"


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ValidationError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, ValidationError),
        (415, ValidationError),
        (422, ValidationError),
        (429, RateLimitError),
        (500, ServerError),
        (501, UnsupportedOperationError),
        (502, ServerError),
        (503, ServerError),
        (302, ServerError),
    ],
)
async def test_a_status_has_its_error(
    client: AsyncChatClient, fake_chat: FakeChatApi, status: int, kind: type[ChatError]
) -> None:
    await client.project()
    fake_chat.fail(status, code="some_code", times=3, retry_after=7)
    with pytest.raises(kind) as caught:
        await client.with_options(retries=0).rooms.get("r")
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.retry_after) == (status, "some_code", 7)
    assert error.request_id
    assert "some code" in str(error)


GARBAGE = [
    b"",
    b"<html>login</html>",
    b"[]",
    b"null",
    b"3",
    b'{"id":',
    b'{"id":1,"name":"n"}',
    b'{"name":"n"}',
    b'{"id":"r","name":NaN}',
    b"\xff\xfe",
    b'{"id":"r","name":"' + b"\xed\xa0\x80" + b'"}',
    b"[" * 10_000 + b"]" * 10_000,
    # Since Python 3.14 a parser goes as deep as the stack is: some 70,000 levels.
    b'{"id":"r","name":"n","x":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
async def test_an_answer_outside_the_contract_is_a_bad_response(
    client: AsyncChatClient, fake_chat: FakeChatApi, body: bytes
) -> None:
    await client.project()
    fake_chat.fail(200, body=body)
    with pytest.raises(ServerError) as caught:
        await client.rooms.get("r")
    assert caught.value.code == "bad_response"
    assert caught.value.__context__ is None, "the parser's error quotes the body"
    assert fake_chat.count("GET .*/rooms/r") == 1


async def test_html_is_a_bad_response_though_it_parses(client: AsyncChatClient) -> None:
    class Html:
        async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109
            return Response(200, [("Content-Type", "text/html")], b'{"id":"p"}')

        async def aclose(self) -> None: ...

    with pytest.raises(ServerError) as caught:
        await AsyncChatClient("https://h", api_key="k", transport=Html()).project()
    assert caught.value.code == "bad_response"


async def test_what_cannot_be_json_is_refused_locally(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    await client.project()
    for odd in ({"x": object()}, {"x": "\ud800"}, {"x": 1j}):
        with pytest.raises(ValidationError):
            await client.users.create(username="a", external_user_id="1", metadata=odd)
    with pytest.raises(ValidationError):
        await client.users.create(username="a", external_user_id="1", idempotency_key="a\r\nb")
    assert fake_chat.count("POST") == 0


# -- calls that survive -----------------------------------------------------------------------------


async def test_a_lost_reply_to_a_message_leaves_exactly_one_message(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    ann = await client.users.create(username="ann", external_user_id="1")
    room = await client.rooms.create(name="r", created_by=ann.id)
    fake_chat.drop(times=2, on="POST .*/messages")
    message = await client.messages.create(room.id, content="once", user_id=ann.id)
    assert fake_chat.count("POST .*/messages") == 3
    assert (await client.messages.list(room.id)).items == (message,)
    keys = {
        each.headers["idempotency-key"]
        for each in fake_chat.seen
        if each.method == "POST" and each.path.endswith("/messages")
    }
    assert len(keys) == 1


async def test_a_server_without_idempotency_sees_a_post_once(fake_chat: FakeChatApi) -> None:
    client = fake_chat.client(dialect=Dialect(idempotency_header=None))
    fake_chat.drop(on="POST")
    with pytest.raises(NetworkError):
        await client.users.create(username="ann", external_user_id="1")
    assert fake_chat.count("POST") == 1
    assert "idempotency-key" not in fake_chat.seen[-1].headers


async def test_a_delete_whose_reply_was_lost_is_a_success(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    ann = await client.users.create(username="ann", external_user_id="1")
    fake_chat.drop(on="DELETE")
    await client.users.delete(ann.id)
    assert fake_chat.count("DELETE") == 2
    with pytest.raises(NotFoundError):
        await client.users.delete(ann.id)


async def test_retry_after_beyond_the_calls_time_ends_it_at_once(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    await client.project()
    fake_chat.fail(429, code="slow_down", retry_after=10**9)
    with pytest.raises(RateLimitError) as caught:
        await client.rooms.list()
    assert caught.value.retry_after == 60
    assert fake_chat.count("GET .*/rooms") == 1


async def test_the_breaker_spares_a_dead_server_and_notices_its_return(
    client: AsyncChatClient, fake_chat: FakeChatApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_broker_sdk._retry.OPEN_FOR", 0.05)
    await client.project()
    fake_chat.fail(503, times=5, retry_after=0)
    for _ in range(2):
        with pytest.raises(ServerError):
            await client.rooms.list()
    with pytest.raises(CircuitOpenError) as caught:
        await client.rooms.list()
    assert caught.value.retry_after is not None
    assert fake_chat.count("GET .*/rooms") == 5
    await asyncio.sleep(caught.value.retry_after)
    assert (await client.rooms.list()).total == 0


@pytest.mark.parametrize("probing", [False, True])
async def test_calls_that_found_no_free_connection_say_nothing_of_the_server(
    fake_chat: FakeChatApi, monkeypatch: pytest.MonkeyPatch, *, probing: bool
) -> None:
    """Ten in a row do not open the breaker, and one that was to probe lets the next call probe at once."""
    monkeypatch.setattr("chat_broker_sdk._retry.OPEN_FOR", 0.05)
    busy = 0

    class Busy(AsgiTransport):
        async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
            nonlocal busy
            if busy:
                busy -= 1
                raise connections_in_use(timeout)
            return await super().send(request, timeout=timeout)

    async with AsyncChatClient("https://h", api_key=KEY, transport=Busy(fake_chat)) as opened:
        client = opened.with_options(retries=0)
        await client.project()
        if probing:
            fake_chat.fail(503, times=5)
            for _ in range(5):
                with pytest.raises(ServerError):
                    await client.rooms.list()
            await asyncio.sleep(0.06)
        busy = 10
        for _ in range(10):
            with pytest.raises(NetworkError) as caught:
                await client.rooms.list()
            assert caught.value.code == "connections_in_use"
        assert (await client.rooms.list()).total == 0


async def test_a_delete_that_was_not_sent_at_first_may_still_find_nothing(
    fake_chat: FakeChatApi,
) -> None:
    """404 is a success only after an attempt that may have reached the server."""
    sent = 0

    class Busy(AsgiTransport):
        async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
            nonlocal sent
            sent += request.method == "DELETE"
            if sent == 1:
                raise connections_in_use(timeout)
            return await super().send(request, timeout=timeout)

    async with AsyncChatClient("https://h", api_key=KEY, transport=Busy(fake_chat)) as client:
        with pytest.raises(NotFoundError):
            await client.users.delete("no-such-user")
    assert sent == 2


async def test_a_total_of_time_ends_a_call_that_is_answered_too_slowly(
    client: AsyncChatClient, fake_chat: FakeChatApi
) -> None:
    await client.project()
    fake_chat.delay(5, times=9)
    hasty = client.with_options(timeout=Timeouts(connect=0.05, read=0.05, total=0.12))
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await hasty.rooms.list()
    assert asyncio.get_running_loop().time() - began < 1


async def test_with_options_is_a_copy(client: AsyncChatClient, fake_chat: FakeChatApi) -> None:
    await client.project()
    fake_chat.fail(503, retry_after=0)
    with pytest.raises(ServerError):
        await client.with_options(retries=0).rooms.list()
    fake_chat.fail(503, retry_after=0)
    assert (await client.rooms.list()).total == 0
    for bad in (-1, 3):
        with pytest.raises(ConfigurationError):
            client.with_options(retries=bad)
    for bad_timeout in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError):
            client.with_options(timeout=bad_timeout)


async def test_the_raw_answer_can_be_had(client: AsyncChatClient) -> None:
    raw = await client.with_raw_response(client.users.list, limit=5)
    assert raw.status == 200
    assert raw.value.limit == 5
    assert raw.header("Content-Type") == "application/json"
    assert b'"limit": 5' in raw.body


# -- ensure -----------------------------------------------------------------------------------------


async def test_ensure_creates_once_for_fifty_at_a_time(client: AsyncChatClient) -> None:
    found = await asyncio.gather(*(client.users.ensure("ext|1", username="ann") for _ in range(50)))
    assert len({each.id for each in found}) == 1
    assert (await client.users.list()).total == 1


async def test_ensure_finds_where_the_filter_is_ignored(
    client: AsyncChatClient, fake_chat: FakeChatApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(450):
        fake_chat.store.create_user({"username": f"u{number}", "external_user_id": f"x{number}"})
    monkeypatch.setattr("chat_broker_sdk.testing.fake_routes._USER_FILTERS", ())
    assert (await client.users.ensure("x444")).username == "u444"
    assert await client.users.find("x999") is None


async def test_ensure_says_when_somebody_else_has_the_name(client: AsyncChatClient) -> None:
    await client.users.create(username="ann", external_user_id="1")
    with pytest.raises(ConflictError) as caught:
        await client.users.ensure("2", username="ann")
    assert caught.value.code == "username_taken"


async def test_ensure_takes_a_digest_where_the_external_id_is_somebodys_name(
    client: AsyncChatClient,
) -> None:
    """External ids are exact and usernames are not: `Ann` and `ann` are two people, with two names."""
    users = [await client.users.ensure(name) for name in ("Ann", "ann", "Ann")]
    assert users[0] == users[2]
    assert [user.external_user_id for user in users[:2]] == ["Ann", "ann"]
    assert users[0].username == "Ann"
    assert users[1].username.startswith("u-")


async def test_ensure_makes_a_username_of_any_external_id(client: AsyncChatClient) -> None:
    for external in ("plain", "auth0|5f7c8ec7c33c6c004bbafe82", "j@x.org", "名前", "a" * 255):
        user = await client.users.ensure(external)
        assert user.external_user_id == external
    assert (await client.users.find("plain")).username == "plain"  # type: ignore[union-attr]
    assert (await client.users.list()).total == 5


# -- another server's spelling ----------------------------------------------------------------------


async def test_a_dialect_changes_every_spelling_in_one_place() -> None:
    seen: list[Request] = []

    class Other:
        async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109
            seen.append(request)
            return Response(200, [], b'{"items":[],"id":"u","username":"n"}')

        async def aclose(self) -> None: ...

    dialect = Dialect(
        prefix="/v2",
        api_key_header="Authorization",
        api_key_prefix="ApiKey ",
        project_scope=False,
        routes=Routes(users="people"),
    )
    client = AsyncChatClient("https://h/base", api_key="k", transport=Other(), dialect=dialect)
    await client.users.get("u1")
    assert seen[0].url == "https://h/base/v2/people/u1"
    assert dict(seen[0].headers)["Authorization"] == "ApiKey k"
    fixed = AsyncChatClient(
        "https://h", api_key="k", transport=Other(), dialect=Dialect(project_id="p9")
    )
    await fixed.users.list()
    assert seen[1].url == "https://h/api/v1/projects/p9/users"


def test_the_synchronous_client_does_the_same(fake_chat: FakeChatApi) -> None:
    with fake_chat.sync_client() as client:
        ann = client.users.ensure("1", username="ann")
        room = client.rooms.create(name="r", created_by=ann.id)
        fake_chat.drop(on="POST .*/messages")
        for number in range(5):
            client.messages.create(room.id, content=str(number), user_id=ann.id)
        said = [each.content for each in client.messages.iterate(room.id, limit=2)]
        assert said == ["4", "3", "2", "1", "0"]
        me = client.as_user(client.users.generate_token(ann.id).token)
        assert me.auth.verify().user.username == "ann"
        assert client.with_raw_response(client.users.get, ann.id).value == ann
        with pytest.raises(NotFoundError):
            client.rooms.get("nothing")


def test_the_key_is_what_authenticates(fake_chat: FakeChatApi) -> None:
    with fake_chat.sync_client(api_key="wrong") as client, pytest.raises(AuthenticationError):
        client.users.list()
    assert KEY != "wrong"


async def test_a_page_of_messages_can_be_had_as_another_type(client: AsyncChatClient) -> None:
    """For who wants less of it: *into* says what the answer becomes."""

    class Brief(msgspec.Struct):
        items: list[msgspec.Raw]
        total: int

    ann = await client.users.create(username="ann", external_user_id="1")
    room = await client.rooms.create(name="r", created_by=ann.id)
    message = await client.messages.create(room.id, content="hi", user_id=ann.id)
    page = await client.messages.list(room.id, limit=5, into=Brief)
    assert page.total == 1
    assert Message.from_json(bytes(page.items[0])) == message
    sent = await client.messages.list(room.id, limit=5, into=bytes)
    assert msgspec.json.decode(sent, type=Brief) == page
    with pytest.raises(ServerError) as caught:
        await client.messages.list(room.id, into=int)
    assert caught.value.code == "bad_response"


async def test_a_users_token_is_not_shared_with_the_transport() -> None:
    """One tuple for all calls with the key, another for those with a body; a user's token belongs to its request alone."""
    seen: list[Request] = []

    class Noting(AsgiTransport):
        async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109 - the seam's argument
            seen.append(request)
            return await super().send(request, timeout=timeout)

    transport = Noting(FakeChatApi(api_key=KEY))
    async with AsyncChatClient("https://h", api_key=KEY, transport=transport) as client:
        ann = await client.users.create(username="ann", external_user_id="1")
        await client.users.list()
        await client.users.find("1")
        token = (await client.users.generate_token(ann.id)).token
        assert (await client.auth.verify(token)).user.user_id == ann.id
    *by_key, by_token = seen
    assert len({(id(request.shared), request.body is None) for request in by_key}) == 2
    assert all(KEY in dict(request.headers).values() for request in by_key)
    assert f"Bearer {token}" not in dict(by_token.shared).values()
    assert f"Bearer {token}" in dict(by_token.own).values()
    assert KEY not in dict(by_token.headers).values()


async def test_auth_verifies_any_token_and_repeats_none() -> None:
    """`verify(token)` says whose a token is; what cannot be one is refused without a request, and without its text."""
    transport = AsgiTransport(FakeChatApi(api_key=KEY))
    async with AsyncChatClient("https://h", api_key=KEY, transport=transport) as chat:
        ann = await chat.users.create(username="ann", external_user_id="1")
        token = (await chat.users.generate_token(ann.id)).token
        assert (await chat.auth.verify(token)).user.user_id == ann.id
        with pytest.raises(AuthenticationError) as refused:
            await chat.auth.verify("eyJ.no-such.token")
        assert "no-such" not in str(refused.value)
        with pytest.raises(ConfigurationError, match="chat token") as malformed:
            await chat.auth.verify("two words")
        assert malformed.value.code == "bad_token"
        assert "two words" not in str(malformed.value)
