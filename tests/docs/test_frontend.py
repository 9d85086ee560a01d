"""docs/frontend.md shows the client that is tested, and nothing else."""

import re

from tests.programs import ROOT


def test_the_client_of_the_page_is_the_one_that_runs() -> None:
    """Its blocks, one after the other, are examples/browser/chat.js; blank lines apart."""
    page = (ROOT / "docs" / "frontend.md").read_text()
    section = page.split("## A client that comes back\n")[1].split("\n## ")[0]
    shown = "\n".join(re.findall(r"```js\n(.*?)```", section, re.DOTALL))
    code = (ROOT / "examples" / "browser" / "chat.js").read_text()
    assert [line for line in shown.splitlines() if line] == [
        line for line in code.splitlines() if line
    ]
