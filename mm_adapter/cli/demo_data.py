"""``mm-adapter demo-data``."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mm_adapter.cli.options import Count, Seed, Value

EXAMPLES = ("mm-adapter demo-data --out questions", "mm-adapter demo-data --out few --size 200 --seed 1")


def demo_data(
    *,
    out: Annotated[Path, Parameter(help="Write the set into this new folder."), Value("FOLDER")],
    seed: Annotated[Seed, Parameter(help="Generate from this seed.")] = 0,
    size: Annotated[
        Count | None,
        Parameter(help="Generate this many questions in all; by default the generator's number."),
    ] = None,
) -> None:
    """Write the generated set in ScienceQA's official layout."""
    from mm_adapter.data.demo import write_demo

    write_demo(out, seed=seed, **({} if size is None else {"size": size}))
    print(f"wrote {out}")
