"""Where a call may go: ids that are one path segment, and servers that are what they seem."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat_broker_sdk import (
    AsyncChatClient,
    ChatError,
    ConfigurationError,
    Request,
    Response,
    ValidationError,
)
from chat_broker_sdk._urls import BaseUrl, base_url, checked_id, url

BAD_IDS = [
    "", ".", "..", "...", "a/b", "/", "a\\b", "..;", "..;/", "a?x=1", "a#b", "%2e%2e", "%2e%2e%2f", "%252e",
    "%252e%252e%252f", "%25252e", "%c0%ae", "%u002e", "a%00", "a\x00", "a\r\nX: 1", "a\n", "\n", "a b", " a",
    "a ", "a:b", "http:", "http://evil.test/", "//evil.test", "a@b", "a;b", "a,b", "a&b", "a=b", "a+b", "a~b",
    "ａ", "．．", "․․", "a\u2028", "é", "\u202e", "\ud800", "a" * 65, "a.b", "*", "'", '"', "<", ">", "{", "}",
    "|", "^", "`", "[", "]", "(", "$", "!", "\t", "\x7f",
]  # fmt: skip


class Recorder:
    """Answers everything, and remembers where it was sent."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109
        self.urls.append(request.url)
        body = b'{"id":"p1","items":[],"totalPages":1,"content":"","username":"u","name":"n"}'
        return Response(200, [("content-type", "application/json")], body)

    async def aclose(self) -> None: ...


@pytest.mark.parametrize("bad", BAD_IDS, ids=ascii)
async def test_an_id_that_is_no_single_segment_is_sent_nowhere(bad: str) -> None:
    recorder = Recorder()
    client = AsyncChatClient("https://chat.test", api_key="k", transport=recorder)
    await client.project()
    for call in (
        client.users.get(bad),
        client.users.update(bad, status="active"),
        client.users.delete(bad),
        client.users.generate_token(bad),
        client.users.revoke_token(bad),
        client.rooms.get(bad),
        client.rooms.update(bad, name="n"),
        client.rooms.delete(bad),
        client.rooms.join(bad, user_id="u"),
        client.rooms.leave(bad, user_id="u"),
        client.rooms.members(bad),
        client.rooms.member("r", bad),
        client.rooms.put_member("r", bad),
        client.rooms.remove_member(bad, "u"),
        client.rooms.mark_read(bad, seq=1),
        client.messages.list(bad),
        client.messages.create(bad, content="x"),
        client.messages.update("r", bad, content="x"),
        client.messages.delete("r", bad),
    ):
        with pytest.raises(ValidationError) as caught:
            await call
        assert caught.value.code == "bad_id"
    assert recorder.urls == ["https://chat.test/api/v1/project"]


def test_there_are_sixty_bad_ids() -> None:
    assert len(set(BAD_IDS)) >= 60


async def test_a_project_id_that_is_no_id_is_refused() -> None:
    """The server's answer becomes part of every later path: it is checked like a caller's."""

    class Evil(Recorder):
        async def send(self, request: Request, *, timeout: float) -> Response:  # noqa: ASYNC109
            await super().send(request, timeout=timeout)
            return Response(200, [("content-type", "application/json")], b'{"id":"../../admin"}')

    evil = Evil()
    client = AsyncChatClient("https://chat.test", api_key="k", transport=evil)
    with pytest.raises(ChatError) as caught:
        await client.users.list()
    assert caught.value.code == "bad_response"
    assert len(evil.urls) == 1


@given(st.text(max_size=80))
def test_whatever_passes_as_an_id_is_a_plain_segment(text: str) -> None:
    try:
        checked_id(text, "id")
    except ValidationError:
        return
    assert url(BaseUrl("https://h"), f"/a/{text}") == f"https://h/a/{text}"
    assert "." not in text
    assert "/" not in text


@given(st.dictionaries(st.sampled_from(["q", "username"]), st.text(max_size=40)))
def test_a_filter_never_leaves_the_query(query: dict[str, str]) -> None:
    try:
        made = url(BaseUrl("https://h"), "/x", query)
    except ValidationError:
        assert any(
            "\ud800" <= character <= "\udfff" for text in query.values() for character in text
        )
        return
    path, _, rest = made.partition("?")
    assert path == "https://h/x"
    assert rest.count("=") == len(query)
    assert "#" not in rest


GOOD = [
    ("https://chat.example.com", "https://chat.example.com"),
    ("https://chat.example.com/", "https://chat.example.com"),
    ("https://chat.example.com:8443/base/", "https://chat.example.com:8443/base"),
    ("HTTPS://Chat.Example.com", "https://chat.example.com"),
    ("http://localhost:8001", "http://localhost:8001"),
    ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
    ("http://[::1]:8001", "http://[::1]:8001"),
    ("http://chat.localhost", "http://chat.localhost"),
    ("http://chat-server:8001", "http://chat-server:8001"),
]
BAD = [
    "",
    "chat.example.com",
    "ftp://chat.example.com",
    "https://",
    "https:///path",
    "https://user:pw@chat.example.com",
    "https://key@chat.example.com",
    "https://chat.example.com?x=1",
    "https://chat.example.com/?",
    "https://chat.example.com#f",
    "https://chat.example.com/../x",
    "https://chat.example.com/a//b",
    "https://chat.example.com/%2e%2e",
    "https://chat.example.com\\@evil.test",
    "https://chat.example.com\r\nHost: evil.test",
    "https://chat example.com",
    "https://chat.example.com:99999",
    "https://chat.example.com:0",
    "https://chat.example.com:",
    "https://chät.example.com",
    "https://-chat.example.com",
    "https://[::1",
    "http://chat.example.com",
    "http://10.0.0.5:8001",
    "http://134744072",
    "http://0x08080808",
    "http://169.254.169.254",
    "http://localhost.evil.test",
]


@pytest.mark.parametrize(("given", "expected"), GOOD)
def test_a_proper_address_is_taken(given: str, expected: str) -> None:
    assert str(base_url(given)) == expected


@pytest.mark.parametrize("bad", BAD)
def test_an_improper_address_is_refused_at_once_and_not_repeated(bad: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        base_url(bad)
    assert isinstance(caught.value, ValueError)
    assert "pw" not in str(caught.value)
    assert "evil" not in str(caught.value)


def test_plain_http_to_another_machine_needs_saying_so() -> None:
    assert str(base_url("http://10.0.0.5:8001", allow_http=True)) == "http://10.0.0.5:8001"
    with pytest.raises(ConfigurationError):
        base_url("http://user@10.0.0.5", allow_http=True)
