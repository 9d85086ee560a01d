"""A real nginx for as long as a block lasts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.programs import free_port, wait_for_port

AROUND = """
pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1; daemon off;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  {more}
  server {{
    listen 127.0.0.1:{port};
    {locations}
  }}
}}
"""


@contextlib.asynccontextmanager
async def nginx(
    folder: Path, locations: str, *, more: str = "", port: int | None = None
) -> AsyncIterator[str]:
    """nginx with these *locations*, and *more* of its block `http`; the address at which it answers."""
    port = port or free_port()
    text = AROUND.format(folder=folder, port=port, locations=locations, more=more)
    async with nginx_with(folder, text, port):
        yield f"http://127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def nginx_with(folder: Path, text: str, port: int) -> AsyncIterator[None]:
    """nginx with a whole configuration that listens on *port*."""
    config = folder / "nginx.conf"
    config.write_text(text)
    process = await asyncio.create_subprocess_exec("nginx", "-c", str(config), "-p", str(folder))
    try:
        await asyncio.to_thread(wait_for_port, port)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
