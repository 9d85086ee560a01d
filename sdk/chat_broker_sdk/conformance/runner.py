"""Runs all conformance checks on a live server."""

import asyncio

from chat_broker_sdk._async.client import AsyncChatClient
from chat_broker_sdk._errors import ChatError, NetworkError, UnsupportedOperationError

from . import messages, people, presence, reactions, rest, roles, rooms, socket, sync  # noqa: F401 - registers the checks
from .checks import CHECKS, GOT_WRONG, HAS, LACKS, SKIPPED, Broken, Check, Finding, Missing, World


async def run(
    base_url: str,
    api_key: str | None = None,
    *,
    sockets: bool = True,
    allow_http: bool = False,
    client: AsyncChatClient | None = None,
) -> list[Finding]:
    """One Finding for each check. Raises ChatError if the server cannot be reached or refuses the key.

    *client*: used instead of a new one, for instance with AsgiTransport. It is closed at the end.
    """
    findings: list[Finding] = []
    client = client or AsyncChatClient(base_url, api_key=api_key, allow_http=allow_http)
    async with client:
        await client.project()
        world = World(client)
        try:
            for area, name, function in CHECKS:
                if area == "Socket.IO" and not sockets:
                    findings.append(Finding(area, name, SKIPPED))
                    continue
                findings.append(await _run_check(area, name, function, world))
        finally:
            await world.clean_up()
    return findings


async def _run_check(area: str, name: str, function: Check, world: World) -> Finding:
    try:
        async with asyncio.timeout(30):
            await function(world)
    except UnsupportedOperationError as error:
        return Finding(area, name, LACKS, _lacking(error))
    except Broken as broken:
        return Finding(area, name, GOT_WRONG, str(broken))
    except Missing as missing:
        return Finding(area, name, SKIPPED, str(missing))
    except NetworkError as error:
        return Finding(area, name, GOT_WRONG, f"no answer ({error.code})")
    except ChatError as error:
        return Finding(area, name, GOT_WRONG, error.message)
    except TimeoutError:
        return Finding(area, name, GOT_WRONG, "took longer than 30 s")
    return Finding(area, name, HAS)


def _lacking(error: UnsupportedOperationError) -> str:
    """Why a call is not offered: the server does not name the feature, or answers so."""
    return f"no feature {error.feature}" if error.status is None else f"{error.status}"
