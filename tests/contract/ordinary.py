"""Runs the program that is named behind this one as if no library had the insides that are looked for.

python tests/contract/ordinary.py .venv/bin/chat-server serve
"""

import runpy
import sys

from chat_broker_kit import insides


def misfit(*_: object) -> str:
    """In the place of the look, before any module asks for it."""
    return "switched off"


insides.misfit = misfit
if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
