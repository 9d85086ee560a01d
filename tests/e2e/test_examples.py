"""The examples are whole programs: two people and a bot talk against a real broker."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.programs import ROOT, clean_environment, running_broker


class Terminal:
    """A program at a terminal: what it printed so far, and a keyboard."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.seen = ""

    async def shows(self, text: str) -> None:
        """Return once *text* has been printed; AssertionError if it was not within ten seconds."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(10):
                while text not in self.seen:
                    chunk = await self._process.stdout.read(1000)
                    assert chunk, f"ended without {text!r}: {self.seen}"
                    self.seen += chunk.decode()
        except TimeoutError:
            raise AssertionError(f"{text!r} is not in {self.seen!r}") from None

    async def types(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()


@asynccontextmanager
async def terminal(program: str, *arguments: str) -> AsyncIterator[Terminal]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "examples" / program),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=clean_environment({}),
    )
    try:
        yield Terminal(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_two_terminals_and_a_bot_talk() -> None:
    """What alice types bob reads, and the bot answers both."""
    async with (
        running_broker() as broker,
        terminal("bot.py", "General", "--broker", broker.url) as bot,
    ):
        await bot.shows("bot answers in General")
        async with (
            terminal("terminal_chat.py", "alice", "General", "--broker", broker.url) as alice,
            terminal("terminal_chat.py", "bob", "General", "--broker", broker.url) as bob,
        ):
            await alice.shows("alice in General")
            await bob.shows("bob in General")
            await alice.types("hello, bob")
            await bob.shows("alice: hello, bob")
            await bob.types("!ping")
            await alice.shows("bob: !ping")
            await alice.shows("bot: pong")
            await bob.shows("bot: pong")


async def test_a_terminal_shows_what_is_unread_in_other_rooms() -> None:
    """As it comes, also of rooms that are joined meanwhile on another device."""
    async with (
        running_broker() as broker,
        terminal("terminal_chat.py", "alice", "Garden", "--broker", broker.url) as garden,
    ):
        await garden.shows("alice in Garden")
        async with (
            terminal("terminal_chat.py", "alice", "Kitchen", "--broker", broker.url) as kitchen,
            terminal("terminal_chat.py", "bob", "Kitchen", "--broker", broker.url) as bob,
        ):
            await kitchen.shows("alice in Kitchen")
            await bob.shows("bob in Kitchen")
            await bob.types("dinner!")
            await garden.shows("# unread: Kitchen (1)")
            await kitchen.shows("bob: dinner!")
            await garden.shows("# nothing unread")


async def test_an_example_without_a_broker_says_what_to_do() -> None:
    async with terminal("terminal_chat.py", "alice", "--broker", "http://127.0.0.1:9") as alice:
        await alice.shows("make run")
