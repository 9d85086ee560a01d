"""A Redis of a benchmark's own; redis-server must be installed."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.programs import free_port, wait_for_port


@dataclass
class Redis:
    """A Redis that keeps nothing, and that may be stopped."""

    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """For REDIS_URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        """As if its machine had gone."""
        self.process.kill()
        self.process.wait()


@contextmanager
def redis_server() -> Iterator[Redis]:
    """A Redis on a free port until the block ends."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        process = subprocess.Popen([*command, "--dir", folder], stdout=subprocess.DEVNULL)
        server = Redis(port, process)
        try:
            wait_for_port(port)
            yield server
        finally:
            server.stop()
