"""What every benchmark does with its numbers: percentiles, a table to read, a file to keep.

Owns the form of a result. Does not own what is measured. A result names its date, its command and the machine, for
numbers of another day or another machine cannot be compared: a claim is a ratio to a baseline of the same run.
"""

import argparse
import asyncio
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
_LOAD_AT_START = os.getloadavg()[0]
LONGEST_S = 600
"""No benchmark runs longer, whatever it waits for, unless it says so itself."""


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest of `values` that at least `share` of them do not exceed."""
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


def spread_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Return how many there are, and p50, p99 and the largest in milliseconds."""
    return {
        "calls": len(seconds),
        "p50_ms": _milliseconds(quantile(seconds, 0.5)),
        "p99_ms": _milliseconds(quantile(seconds, 0.99)),
        "max_ms": _milliseconds(max(seconds)),
    }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 2)


def show(title: str, rows: Iterable[Mapping[str, object]]) -> None:
    """Print rows of the same keys as a Markdown table."""
    listed = list(rows)
    cells = [list(listed[0]), *([shown(value) for value in row.values()] for row in listed)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    rule = "-|-".join("-" * width for width in widths)
    print(f"\n{title}\n", *(f"| {line} |" for line in [lines[0], rule, *lines[1:]]), sep="\n", flush=True)


def shown(value: object) -> str:
    """Return a value as tables show it."""
    if isinstance(value, float):
        return f"{value:,.1f}" if value >= 100 else f"{value:.2f}"  # noqa: PLR2004 - three digits say enough
    return f"{value:,}" if isinstance(value, int) else str(value)


def keep(name: str, results: object) -> None:
    """Write `results/<name>.json` with all one needs to make them again."""
    RESULTS.mkdir(exist_ok=True)
    document: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "command": " ".join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]),
        "commit": _commit(),
        "machine": {
            "cpus": os.cpu_count(),
            "processor": _processor(),
            "python": platform.python_version(),
            "load_1m_at_start": round(_LOAD_AT_START, 2),
            "load_1m_at_end": round(os.getloadavg()[0], 2),
            "nice": os.nice(0),
        },
        "results": results,
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(f"\nwritten to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def _commit() -> str:
    """Return the commit that was measured, with a word where files differ from it; empty outside a repository."""
    command = ("git", "-C", str(RESULTS.parent), "describe", "--always", "--dirty", "--exclude=*")
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - written here
    return found.stdout.strip()


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser that explains itself with a module's docstring."""
    program = f"python -m benchmarks.{Path(sys.argv[0]).stem}"
    return argparse.ArgumentParser(prog=program, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


def run(work: Coroutine[Any, Any, None], longest_s: float = LONGEST_S) -> None:
    """Run a benchmark, for so long at most."""

    async def bounded() -> None:
        async with asyncio.timeout(longest_s):
            await work

    asyncio.run(bounded())
