"""One door for every place that questions come from."""

import os
import re
from pathlib import Path

from mm_adapter.core.errors import UserError
from mm_adapter.data.dataset import Dataset
from mm_adapter.data.hub import parquet_splits, read_hub
from mm_adapter.data.scienceqa import read_scienceqa

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)


def read_dataset(source: str, skip_bad: bool = False, check_images: bool = False) -> Dataset:
    """Return the questions of ``source``: a ScienceQA folder, a folder of parquet files, or a hub id ``owner/name``.

    What exists on disk wins over a hub id of the same name.

    Args:
        source: what the user gave as ``--data``.
        skip_bad: leave bad questions out and record why, instead of refusing the whole.
        check_images: a question whose picture file is missing is bad (parquet files carry their pictures anyway).

    Raises:
        UserError: there is nothing to read, or it is bad.
    """
    # os.path answers False where pathlib raises: names too long, null characters.
    if os.path.isdir(source):
        folder = Path(source)
        if os.path.exists(folder / "problems.json") or os.path.exists(folder / "pid_splits.json"):
            return read_scienceqa(folder, skip_bad, check_images)
        if parquet_splits(folder):
            return read_hub(source, skip_bad)
        raise UserError(
            f"{source}: neither problems.json nor parquet files of train, validation or test are in this folder. "
            "Give the folder that holds them."
        )
    if os.path.exists(source):
        raise UserError(f"{source}: this is a file; give the folder that holds problems.json or the parquet files.")
    if HUB_ID.fullmatch(source):
        return read_hub(source, skip_bad)
    raise UserError(f"{source}: this data folder does not exist. Check the path, or give a hub id (owner/name).")
