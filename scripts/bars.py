"""What benchmarks and checks write: measured values beside the bars that they were held against."""

from pathlib import Path
from typing import Any

from mm_adapter.core.files import write_json


def bar(name: str, value: float, limit: float, holds: bool) -> dict[str, Any]:
    """Return one measured bar."""
    return {"name": name, "value": value, "bar": limit, "holds": bool(holds)}


def write_bars(path: Path, bars: list[dict[str, Any]]) -> None:
    """Write measured bars as ``{"bars": [...]}``, missed ones included."""
    write_json(path, {"bars": bars})


def tell_bars(bars: list[dict[str, Any]], path: Path | None) -> None:
    """Print each bar with its verdict, and write all to ``path`` where one is given."""
    for measured in bars:
        verdict = "holds" if measured["holds"] else "missed"
        print(f"{measured['name']}: {measured['value']:.3g} (bar {measured['bar']}), {verdict}")
    if path is not None:
        write_bars(path, bars)
