"""What the SDK's tests share."""

from collections.abc import AsyncIterator

import pytest

from chat_broker_sdk import AsyncChatClient
from chat_broker_sdk.testing import FakeChatApi

KEY = "ck_live_s3cr3tCanary0123456789"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the environment, and pauses between attempts take no time."""
    for name in ("CHAT_API_KEY", "CHAT_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("chat_broker_sdk._retry.FIRST_PAUSE", 0.002)


@pytest.fixture
def fake_chat() -> FakeChatApi:
    return FakeChatApi(api_key=KEY)


@pytest.fixture
async def client(fake_chat: FakeChatApi) -> AsyncIterator[AsyncChatClient]:
    async with fake_chat.client() as client:
        yield client
