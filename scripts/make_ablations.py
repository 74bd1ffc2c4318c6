"""Write docs/ablations.md: finished ablations, one after another, with the commands that made them.

python scripts/make_ablations.py OUT [OUT ...] [--docs docs/ablations.md]
"""

import argparse
import sys
from pathlib import Path

from mm_adapter.ablation.summary import Report, read_report
from mm_adapter.core.files import write_text

INTRODUCTION = """# Ablations

Grids of trainings as the paper's section 4 has them, on models and questions that two CPU cores can do. A grid is a
TOML file ([`mm_adapter/presets/ablations`](../mm_adapter/presets/ablations)); `mm-adapter ablate GRID --data DIR --out
OUT` runs it, goes on where it was interrupted, and writes these tables; `python scripts/make_ablations.py OUT ...`
makes this page.

The runs here are short, so they speak of the first steps of training and not of its end: on real questions all of them
are still below the base model as it is asked without an adapter, about 50 %.
"""


def section(report: Report) -> str:
    """Return one ablation with the commands that make it."""
    commands = [f"mm-adapter ablate {report.grid} --data DIR --out OUT --split {report.split}"]
    if report.grid == "demo":
        commands.insert(0, "mm-adapter demo-data --out DIR")
    heading, _, rest = report.to_markdown(level=2).partition("\n")
    return "\n".join([heading, "", *(f"    {command}" for command in commands), rest])


def main() -> int:
    """Read the reports and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="+", type=Path, metavar="OUT", help="folders that mm-adapter ablate wrote")
    parser.add_argument("--docs", type=Path, default=Path("docs/ablations.md"), help="file to write")
    options = parser.parse_args()
    write_text(options.docs, "\n".join([INTRODUCTION, *(section(read_report(folder)) for folder in options.out)]))
    print(f"wrote {options.docs}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
