"""The README's minute of chat really works: its curl lines are run as they stand, against a real broker."""

import asyncio
import json
import re

import pytest

from tests.programs import ROOT, clean_environment, running_broker

README = (ROOT / "README.md").read_text()


def shell_blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


async def test_the_minute_of_curl_works_as_printed() -> None:
    """Only the port differs: a chat token, a room, a join, two messages read back."""
    block = next(block for block in shell_blocks() if "/dev/login" in block)
    async with running_broker() as broker:
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-euc",
            block.replace("localhost:8000", broker.url.removeprefix("http://")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=clean_environment({}),
        )
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    decoder, values, rest = json.JSONDecoder(), [], out.decode().strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        values.append(value)
        rest = rest[end:].strip()
    token, joined, posted, page = values
    assert token["user"]["username"] == "alice"
    assert joined["username"] == "bob"
    assert posted["content"] == "Hello!"
    assert page["items"] == [posted]


@pytest.mark.parametrize("command", ["run", "test"])
def test_the_two_commands_are_targets_of_the_makefile(command: str) -> None:
    assert f"make {command}" in shell_blocks()[0]
    assert re.search(rf"^{command}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_every_value_of_the_dialect_is_in_the_table() -> None:
    """Whoever has another server finds all that can be set."""
    from dataclasses import fields

    from chat_sdk import Dialect

    missing = [one.name for one in fields(Dialect) if f"`{one.name}`" not in README]
    assert missing == []
