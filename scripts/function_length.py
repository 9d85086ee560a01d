"""Name each function of the packages that has more than 60 lines."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_LINES = 60


def long_functions() -> list[str]:
    found = []
    for package in ("app", "sdk", "server", "kit"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    lines = (node.end_lineno or node.lineno) - node.lineno + 1
                    if lines > MOST_LINES:
                        where = f"{file.relative_to(ROOT)}:{node.lineno}"
                        found.append(
                            f"{where}: {node.name} has {lines} lines, {MOST_LINES} at most"
                        )
    return found


if __name__ == "__main__":
    sys.exit("\n".join(long_functions()) or 0)
