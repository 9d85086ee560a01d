"""For tests of programs that use the SDK: a Chat API in memory, which can be told to fail.

As a pytest plugin (`pytest_plugins = ["chat_broker_sdk.testing"]` in conftest.py) it brings the fixture
`fake_chat`. Without pytest, use `FakeChatApi` directly.
"""

import importlib.util

from .fake_server import FakeChatApi, Fault
from .fake_store import Seen

__all__ = ["FakeChatApi", "Fault", "Seen"]

if importlib.util.find_spec("pytest") is not None:
    import pytest

    @pytest.fixture
    def fake_chat() -> FakeChatApi:
        """An empty Chat API in memory; `fake_chat.client()` talks to it."""
        return FakeChatApi()
