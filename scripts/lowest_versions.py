"""The lowest version of every requirement in setup.py: resolved, held against the bounds, and recorded once proven.

    python scripts/lowest_versions.py             # lists the lowest versions that install beside each other
    python scripts/lowest_versions.py --bounds    # seconds: only looks whether the registry has every bound
    python scripts/lowest_versions.py --record    # writes what is installed here to scripts/lowest_versions.json

What stands in setup.py is asked for at its lowest, everything below it at its newest. Only wheels for this Python
count; what is published as source alone is built. The exit status is 1 where a bound in setup.py is not the version
found: it promises what is not there, or does not go with the others.
"""

import argparse
import json
import platform
import re
import runpy
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
RECORD = Path(__file__).with_suffix(".json")
SOURCE_ONLY = ("rouge-score", "sqlitedict", "word2number", "transformers-stream-generator", "zss")
"""Published without wheels: two of the last are lm-eval's, two lmms-eval's."""


def read_requirements(folder: Path = ROOT) -> list[Requirement]:
    """Return what setup.py asks for here, in any extra, each once; markers of other Pythons are left out."""
    import setuptools

    with mock.patch.object(setuptools, "setup") as called:
        runpy.run_path(str(folder / "setup.py"))
    asked = called.call_args.kwargs
    texts = [*asked["install_requires"], *(text for extra in asked["extras_require"].values() for text in extra)]
    wanted = [Requirement(text) for text in dict.fromkeys(texts)]
    return [need for need in wanted if need.marker is None or need.marker.evaluate()]


def lower_bounds(wanted: list[Requirement]) -> dict[str, str]:
    """Return package -> lowest version that its range takes in.

    Raises:
        SystemExit: a package has no lower bound, or two requirements.
    """
    found: dict[str, str] = {}
    for need in wanted:
        lows = [part.version for part in need.specifier if part.operator in (">=", "==", "~=")]
        name = canonicalize_name(need.name)
        if len(lows) != 1 or name in found:
            raise SystemExit(f"setup.py: {need}: give {name} one requirement with one lower bound, such as {name}>=1.0")
        found[name] = lows[0]
    return found


def lowest(wanted: list[Requirement]) -> dict[str, str]:
    """Return package -> lowest version in its range that the registry has, looked up without what it needs."""
    return compile_pins(list(map(str, wanted)), "--no-deps", "--resolution", "lowest-direct")


def together(wanted: list[Requirement], found: dict[str, str]) -> dict[str, str]:
    """Return package -> version, of requirements at the versions found and of the newest of all that they need."""
    extras: dict[str, str] = {
        canonicalize_name(need.name): f"[{','.join(need.extras)}]" if need.extras else "" for need in wanted
    }
    return compile_pins([f"{name}{extras[name]}=={there}" for name, there in found.items()])


def compile_pins(lines: list[str], *options: str) -> dict[str, str]:
    """Return package -> version, as uv resolves requirements.

    Raises:
        SystemExit: there is no solution, or the registry does not answer; uv's message says what.
    """
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv) if uv.exists() else shutil.which("uv") or "uv", "pip", "compile", "-", "--no-annotate"]
    command += ["--quiet", "--no-header", "--python", sys.executable, "--only-binary", ":all:", *options]
    command += [word for name in SOURCE_ONLY for word in ("--no-binary", name)]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"no lowest versions:\n{done.stderr}")
    pairs = re.findall(r"^([\w.-]+)(?:\[.*\])?==(\S+)", done.stdout, re.M)
    return {canonicalize_name(name): there for name, there in pairs}


def untrue(bounds: dict[str, str], found: dict[str, str]) -> list[str]:
    """Return one line for each bound that is not the version found."""
    pairs = [(name, low, found.get(name)) for name, low in bounds.items()]
    return [
        f"setup.py: {name}>={low}, but the lowest is {there or 'not there'}"
        for name, low, there in pairs
        if there is None or Version(low) != Version(there)
    ]


def record(bounds: dict[str, str], resolved: dict[str, str]) -> dict[str, Any]:
    """Return what is installed in this environment, with the day."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "bounds": {name: version(name) for name in sorted(bounds)},
        "below": {name: version(name) for name in sorted(set(resolved) - set(bounds))},
    }


def main() -> int:
    """List, check or record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--bounds", action="store_true", help="look for every bound by itself")
    parser.add_argument("--record", action="store_true", help="write what is installed here, after the tests passed")
    options = parser.parse_args()
    wanted = read_requirements()
    bounds = lower_bounds(wanted)
    found = lowest(wanted)
    wrong = untrue(bounds, found)
    if not options.bounds:
        found = together(wanted, found)
    if options.record:
        proven = record(bounds, found)
        wrong += untrue(bounds, proven["bounds"])
        if not wrong:
            RECORD.write_text(json.dumps(proven, indent=1) + "\n")
    else:
        print("\n".join(f"{name}=={there}" for name, there in found.items()))
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
