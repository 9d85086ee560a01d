"""`GET /` of a broker in development, as Chromium shows it."""

import pytest

from tests.e2e.javascript import browser
from tests.programs import free_port, running_broker


@pytest.mark.services("node", "chromium")
async def test_it_fits_every_screen_and_breaks_no_policy() -> None:
    """Nothing is refused by its own policy, nothing is fetched besides, nothing has to be scrolled sideways."""
    look = """() => {
        const style = getComputedStyle(document.body);
        const small = [...document.querySelectorAll("a")].filter((link) => link.getBoundingClientRect().height < 18);
        return { wide: document.documentElement.scrollWidth > innerWidth, colour: style.color, ground: style.backgroundColor,
                 heading: document.querySelector("h1").textContent, small: small.length };
    }"""
    async with running_broker() as broker, browser(free_port()) as chromium:
        seen = {}
        for scheme in ("light", "dark"):
            for width in (320, 1280):
                page = f"{scheme} {width}"
                options = {"colorScheme": scheme, "viewport": {"width": width, "height": 720}}
                await chromium.call(
                    "open", page=page, url=f"{broker.url}/", profile=page, options=options
                )
                shown = (await chromium.call("evaluate", page=page, script=look))["result"]
                assert shown["heading"] == "chat-broker"
                assert not shown["wide"], page
                assert shown["small"] == 0, page
                seen[scheme] = (shown["colour"], shown["ground"])
                watched = await chromium.call("watched", page=page)
                assert watched["requests"] == [f"GET {broker.url}/"]
                assert watched["errors"] == watched["console"] == []
        assert seen["light"] != seen["dark"]
        assert seen["light"][1] != "rgba(0, 0, 0, 0)"  # the style was let in
