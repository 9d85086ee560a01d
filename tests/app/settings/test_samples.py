"""Secrets from examples are refused; generated ones are accepted."""

import random
import re
import secrets
import string
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from chat_broker.settings import BadSettings, Settings, conflicts, is_sample
from tests.programs import ROOT

PRODUCTION = {
    "_env_file": None,
    "auth": ("header",),
    "auth_header_trusted_proxies": "10.0.0.0/8",
    "auth_header_secret": "qkO4mVh2Zt",
}
GENERATORS: list[Callable[[], str]] = [
    lambda: secrets.token_urlsafe(16),
    lambda: secrets.token_urlsafe(32),
    lambda: secrets.token_hex(16),
    lambda: str(uuid.uuid4()),
    lambda: "".join(random.choices(string.digits, k=20)),
    lambda: "".join(random.choices(string.ascii_lowercase, k=20)),
    lambda: "".join(random.choices(string.printable.strip(), k=20)),
    lambda: f"ck_{secrets.token_hex(8)}_{secrets.token_urlsafe(32)}",
    lambda: "-".join(
        [*random.choices(("otter", "piano", "secret", "lamp", "key", "your"), k=5), "tin"]
    ),
]
PREFIXES = (
    "",
    "secret",
    "secret_",
    "example-",
    "sample.",
    "replace-",
    "your_",
    "<",
    "changeme",
    "test_key_",
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_no_random_secret_is_taken_for_a_sample(prefix: str) -> None:
    """Generated secrets are accepted with any prefix: those of some providers begin with "secret"."""
    for generate in GENERATORS:
        for _ in range(1000):
            made = prefix + generate()
            assert not is_sample(made), made


@pytest.mark.parametrize(
    "sample",
    [
        "change-me", "CHANGE_ME", "changeme", "changeme123", "change-me-now", "change-me-in-production",
        "<your key here>", "your-api-key", "your_secret_key", "replace-this", "secret", "example", "{{ your secret }}",
        "sample_admin_key", "…", "ck_…", "example-admin-key-0123456789", "<replace me with a real secret, please>",
    ],
)  # fmt: skip
def test_a_sample_is_refused_in_production(sample: str) -> None:
    with pytest.raises(BadSettings, match="AUTH_HEADER_SECRET: is a sample value"):
        Settings(**{**PRODUCTION, "auth_header_secret": sample})


def test_development_takes_samples() -> None:
    settings = Settings(
        **{**PRODUCTION, "environment": "development", "auth_header_secret": "change-me"}
    )
    assert list(conflicts(settings)) == []


def documents() -> list[Path]:
    return [ROOT / ".env.example", ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_no_example_holds_a_secret_that_production_would_take(document: Path) -> None:
    """Secrets in `.env.example` are empty; in other examples they are refused values or generated."""
    found = re.findall(
        r"\b(?:CHAT_API_KEY(?:_NEXT)?|ADMIN_KEY|AUTH_JWT_SECRET|AUTH_HEADER_SECRET"
        r"|AUTH_INTROSPECTION_CLIENT_SECRET)=([^\s`]*)",
        document.read_text(),
    )
    taken = [value for value in found if value and not value.startswith(("$", '"$'))]
    assert [value for value in taken if not is_sample(value)] == []
