"""Drive a script of tests/e2e in a Node.js process of its own: frontend.mjs, browser.mjs."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Frontend:
    """One Node.js process; each call is one command of its script."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    async def call(self, command: str, *, within: float = 30, **arguments: Any) -> Any:
        """Run one command and answer what it printed; AssertionError if it threw."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        async with self._turn:
            stdin.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
            await stdin.drain()
            line = await asyncio.wait_for(stdout.readline(), within)
        assert line, "the Node.js process ended"
        answer = json.loads(line)
        assert "failed" not in (answer if isinstance(answer, dict) else {}), answer
        return answer


@asynccontextmanager
async def frontend() -> AsyncIterator[Frontend]:
    """A running frontend.mjs, ended with the block: the official Socket.IO client."""
    async with _script("frontend.mjs") as process:
        yield Frontend(process)


@asynccontextmanager
async def browser(port: int) -> AsyncIterator[Frontend]:
    """A running browser.mjs: Chromium, and the pages of examples/browser on http://localhost:*port*."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    async with _script("browser.mjs", json.dumps({"port": port, "chromium": chromium})) as process:
        yield Frontend(process)


@asynccontextmanager
async def _script(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        "node",
        *command,
        cwd=HERE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**22,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()  # it ends what it has started, and then itself
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()
