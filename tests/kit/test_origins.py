"""Origins that a setting lists, and a server's own address in every spelling."""

import pytest

from chat_broker_kit.http.origins import is_same_address, listed_origin


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "https://app.example.com:8443",
        "http://localhost:5173",
        "http://[::1]:8000",
        "capacitor://localhost",
        "ionic://localhost",
        "tauri://localhost",
        "app://.",
        "app://obsidian.md",
        "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
        "moz-extension://1c4d5e6f-0000-4000-8000-123456789abc",
        "ms-appx-web://app:99",
    ],
)
def test_an_origin_is_listed_as_it_stands(origin: str) -> None:
    """RFC 6454 section 6.2; apps have schemes of their own."""
    assert listed_origin(origin) == origin


def test_of_web_origins_the_default_port_is_left_out_as_browsers_do() -> None:
    assert listed_origin("https://app.example.com:443") == "https://app.example.com"
    assert listed_origin("http://app.example.com:80") == "http://app.example.com"
    assert listed_origin("http://app.example.com:443") == "http://app.example.com:443"
    assert listed_origin("app://x:443") == "app://x:443"


@pytest.mark.parametrize(
    "text",
    [
        "", "*", "null", "app.example.com", "//app.example.com", "https://", "https:/app", "https://app.example.com/",
        "https://app.example.com/x", "https://app.example.com?x", "https://app.example.com#x", "HTTPS://app.example.com",
        "https://App.example.com", "https://a@app.example.com", "https://*.example.com", "https://app.example.com:x",
        "https://app.example.com:99999", "https://app.example.com:0", "https://a b", "https://app\u00e9.example.com",
        "https://[::zz]", "capacitor://", "capacitor://localhost/", "Capacitor://localhost", "file://", "data:x",
        "1app://x", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_what_is_no_origin_is_not_listed(text: str) -> None:
    with pytest.raises(ValueError, match="origin"):
        listed_origin(text)


@pytest.mark.parametrize(
    ("origin", "own"),
    [
        ("https://chat.example.com", "https://chat.example.com"),
        ("wss://chat.example.com", "https://chat.example.com"),
        ("WSS://Chat.Example.COM", "https://chat.example.com"),
        ("https://chat.example.com:443", "https://chat.example.com"),
        ("https://chat.example.com", "https://chat.example.com:443"),
        ("wss://chat.example.com:443/", "https://chat.example.com"),
        ("https://chat.example.com.", "https://chat.example.com"),
        ("ws://localhost:8000", "http://localhost:8000"),
        ("ws://[::1]:8000", "http://[0:0:0:0:0:0:0:1]:8000"),
        ("http://localhost:80/", "ws://localhost"),
    ],
)
def test_one_address_in_any_spelling_is_one_address(origin: str, own: str) -> None:
    assert is_same_address(origin, own)
    assert is_same_address(own, origin)


@pytest.mark.parametrize(
    "origin",
    [
        "", "null", "chat.example.com", "http://chat.example.com", "ws://chat.example.com", "https://chat.example.com:444",
        "https://evil.test", "https://chat.example.com.evil.test", "https://chat.example.com@evil.test",
        "https://evil.test/https://chat.example.com", "https://chat.example.com/x", "https://chat.example.com?x",
        "https://chat.example.com:0443x", "https://chat.example.com:", "https://chat.example.com, https://evil.test",
        "capacitor://chat.example.com", "https://" + "x" * 400,
    ],
)  # fmt: skip
def test_another_address_is_another(origin: str) -> None:
    assert not is_same_address(origin, "https://chat.example.com")
    assert not is_same_address(origin, "https://chat.example.com", tls_may_end_before=True)


def test_tls_may_end_before_the_server() -> None:
    """Plain http, as far as the server can see: https of the same host and port may be meant, and never the reverse."""
    for own, origin in (
        ("http://chat.example.com", "https://chat.example.com"),
        ("http://chat.example.com", "wss://chat.example.com:443"),
        ("http://chat.example.com:8443", "https://chat.example.com:8443"),
    ):
        assert is_same_address(origin, own, tls_may_end_before=True)
        assert not is_same_address(origin, own)
    assert not is_same_address(
        "https://chat.example.com", "http://chat.example.com:8000", tls_may_end_before=True
    )
