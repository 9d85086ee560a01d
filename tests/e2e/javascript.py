"""Drive tests/e2e/frontend.mjs: the official JavaScript client in a Node.js process of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Frontend:
    """One Node.js process; each call is one command of frontend.mjs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    async def call(self, command: str, **arguments: Any) -> Any:
        """Run one command and answer what it printed; AssertionError if it threw."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        async with self._turn:
            stdin.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
            await stdin.drain()
            line = await asyncio.wait_for(stdout.readline(), 15)
        assert line, "the Node.js process ended"
        answer = json.loads(line)
        assert "failed" not in (answer if isinstance(answer, dict) else {}), answer
        return answer


@asynccontextmanager
async def frontend() -> AsyncIterator[Frontend]:
    """A running frontend.mjs, ended with the block."""
    process = await asyncio.create_subprocess_exec(
        "node",
        "frontend.mjs",
        cwd=HERE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**22,
    )
    try:
        yield Frontend(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
