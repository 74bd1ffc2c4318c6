"""Small inputs of the world that went wrong once: every one gives the right value, or a refusal that names the thing.

    python scripts/check_cases.py FOLDER [--only NAME] [--json FILE]

FOLDER holds a folder for each case; it is copied, and the commands run in the copy. A case passes where what is
expected of it was found: a figure, a text of a message with its exit status 2, or the value of an independent library.
"""

import argparse
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import cases_of_data
import cases_of_models
from bars import bar, write_bars
from case_commands import CASES

__all__ = ["cases_of_data", "cases_of_models"]


def main() -> int:
    """Check every case, print a table, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, help="holds a folder for each case")
    parser.add_argument("--only", help="the case of this name alone")
    parser.add_argument("--json", type=Path, help="write the bars to this file")
    options = parser.parse_args()
    result = None if options.json is None else options.json.absolute()
    here = sorted(path.name for path in options.folder.iterdir() if path.is_dir() and path.name not in ("D", "TINY"))
    bars = []
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(options.folder, Path(place) / "cases")
        os.chdir(Path(place) / "cases")
        warnings.simplefilter("ignore")
        for name in [name for name in here if options.only in (None, name)]:
            reason = ""
            try:
                CASES[name]()
            except KeyError as error:
                reason = f"no check is written for it ({error})"
            except AssertionError as error:
                reason = str(error) or traceback.format_exc(limit=-1)
            except Exception:
                reason = traceback.format_exc(limit=-3)
            print(f"{name:<14} {'holds' if not reason else 'FAILS: ' + reason[:1500]}", flush=True)
            bars.append(bar(name, 0.0 if reason else 1.0, 1.0, not reason))
    print(f"{sum(item['holds'] for item in bars)} of {len(bars)} cases hold")
    if result is not None:
        write_bars(result, bars)
    return 0 if all(item["holds"] for item in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
