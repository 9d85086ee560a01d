"""The results of a run as text, as JSON, and as a chart."""

import platform
import subprocess
from dataclasses import asdict
from html import escape
from typing import Any

from .compare import Table

_BAR, _ROW, _LEFT, _WIDTH = 18, 26, 250, 900


def ratio(table: Table, ours: str, other: str) -> float | None:
    """How many times the CPU of *ours* the other one needs; above 1, ours is ahead."""
    mine, theirs = table.row(ours), table.row(other)
    return theirs.cpu_us / mine.cpu_us if mine and theirs and mine.cpu_us else None


def as_text(table: Table, ours: set[str]) -> str:
    """One table, the cheapest first, each row with its ratio to ours."""
    mine = next((row for row in table.rows if row.name in ours), None)
    with_rates = any(row.per_second for row in table.rows)
    lines = ["", table.title]
    head = f"  {'':32}{table.unit:>22}{'/ ours':>9}"
    lines.append(
        head
        + (f"{'per second':>12}{'p50 ms':>9}{'p99 ms':>9}" if with_rates else "")
        + f"{'MB':>7}"
    )
    for row in sorted(table.rows, key=lambda row: row.cpu_us):
        share = f"{row.cpu_us / mine.cpu_us:9.2f}" if mine and mine.cpu_us else f"{'':9}"
        rates = f"{row.per_second:12.0f}{row.p50_ms:9.2f}{row.p99_ms:9.2f}" if with_rates else ""
        lines.append(f"  {row.name:32}{row.cpu_us:22.1f}{share}{rates}{row.memory_mb:7.0f}")
        if row.beside:
            lines.append(
                "    " + " · ".join(f"{name} {value}" for name, value in row.beside.items())
            )
    lines += [f"  {name}: left out: {reason}" for name, reason in table.left_out.items()]
    return "\n".join(lines)


def _version(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return None
    return (done.stdout or done.stderr).strip().splitlines()[0] if done.returncode == 0 else None


def machine() -> dict[str, Any]:
    """The hardware and versions of a run, without anything that identifies the machine."""
    return {
        "python": platform.python_version(),
        "node": _version("node", "--version"),
        "nginx": _version("nginx", "-v"),
        "kernel": platform.release().split("-")[0],
        "architecture": platform.machine(),
    }


def as_json(tables: list[Table], facts: dict[str, Any]) -> dict[str, Any]:
    """Everything measured, in the units of the tables."""
    return {"machine": machine(), "tables": [asdict(table) for table in tables], **facts}


def as_chart(tables: list[Table], ours: set[str]) -> str:
    """One SVG: a group of bars per table, the shorter the better, our own in colour; dark and light pages."""
    parts: list[str] = []
    y = 10
    for table in tables:
        rows = sorted(table.rows, key=lambda row: row.cpu_us)
        if not rows:
            continue
        # One very slow peer would press all others flat: its bar is cut, and its number says so.
        middle = rows[len(rows) // 2].cpu_us
        longest = min(rows[-1].cpu_us, max(4 * middle, 1e-9))
        y += 24
        parts.append(
            f'<text x="0" y="{y}" class="title">{escape(table.title)}, {escape(table.unit)}</text>'
        )
        y += 10
        for row in rows:
            width = max(2.0, min(1.0, row.cpu_us / longest) * (_WIDTH - _LEFT - 90))
            kind = "ours" if row.name in ours else "peer"
            cut = " …" if row.cpu_us > longest else ""
            number = f"{row.cpu_us:,.0f}" if row.cpu_us >= 100 else f"{row.cpu_us:.1f}"
            parts.append(
                f'<text x="{_LEFT - 8}" y="{y + 14}" class="name">{escape(row.name)}</text>'
            )
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{width:.0f}" height="{_BAR}" class="{kind}"/>'
            )
            parts.append(f'<text x="{_LEFT + width + 6:.0f}" y="{y + 14}">{number}{cut}</text>')
            y += _ROW
    style = (
        "text{font:13px sans-serif;fill:#333}.title{font-weight:bold}.name{text-anchor:end}"
        ".peer{fill:#b8bec6}.ours{fill:#2f7d4f}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}.peer{fill:#5b626b}.ours{fill:#54b37c}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 10}" role="img">'
        f"<title>CPU per piece of work, shorter is better</title><style>{style}</style>"
        + "".join(parts)
        + "</svg>\n"
    )
