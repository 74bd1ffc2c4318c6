"""Every lower bound of setup.py is published, installs beside all others and passed; `make test-lowest` records it."""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from lowest_versions import RECORD, ROOT, lower_bounds, read_requirements, untrue
from packaging.requirements import Requirement

import mm_adapter

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "lowest_versions.py"


def test_everything_is_imported() -> None:
    """No module of the package needs a name that the installed version of another package lacks."""
    found = [module.name for module in pkgutil.walk_packages(mm_adapter.__path__, "mm_adapter.")]
    assert len(found) > 100
    # What lmms-eval itself imports is there where it is, which `make test` does without.
    absent = ("lmms_eval_plugin", "lmms_eval_model") if find_spec("lmms_eval") is None else ()
    for name in found:
        if not name.endswith(("__main__", *absent)):
            importlib.import_module(name)


def test_the_record_is_of_these_bounds() -> None:
    """What was installed when the tests passed is what setup.py asks for at least today, package by package."""
    proven = json.loads(RECORD.read_text())["bounds"]
    bounds = lower_bounds(read_requirements())
    # One that is asked for under other Pythons alone, such as tomli, stands in neither.
    assert set(proven) == set(bounds), "run make test-lowest and commit scripts/lowest_versions.json"
    assert untrue(bounds, proven) == [], "run make test-lowest and commit scripts/lowest_versions.json"


def test_the_registry_has_every_bound() -> None:
    """A bound that was never published, or has no wheel for this Python, promises what nobody can install."""
    done = subprocess.run([sys.executable, SCRIPT, "--bounds"], capture_output=True, text=True, check=False)
    if done.returncode and any(word in done.stderr for word in ("error sending request", "Failed to fetch", "offline")):
        pytest.skip(f"the registry does not answer: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert f"{len(lower_bounds(read_requirements()))}" == f"{len(done.stdout.splitlines())}"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("numpy", "numpy: give numpy one requirement"),
        ("numpy<3", "give numpy one requirement"),
        ("numpy>=1,>=2", "give numpy one requirement"),
    ],
)
def test_no_requirement_without_one_lower_bound(asked: str, message: str) -> None:
    """A range that begins nowhere, or twice, cannot be tried at its lowest."""
    with pytest.raises(SystemExit, match=message):
        lower_bounds([Requirement(asked)])
    with pytest.raises(SystemExit, match=message.rpartition(":")[2].strip()):
        lower_bounds([Requirement("numpy>=1"), Requirement("numpy>=2")])


@pytest.mark.parametrize("found", [{"one": "1.0.1"}, {"one": "0.9"}, {}])
def test_a_bound_that_is_not_what_was_found_is_told(found: dict[str, str]) -> None:
    """A lowest version above or below the bound, or none, is one line; 1.0 and 1.0.0 are the same version."""
    assert untrue({"one": "1.0"}, {"one": "1.0.0"}) == []
    (line,) = untrue({"one": "1.0"}, found)
    assert line == f"setup.py: one>=1.0, but the lowest is {found.get('one', 'not there')}"


def test_a_bound_that_was_never_published_fails(tmp_path: Path) -> None:
    """Such a bound in a copy of setup.py makes the check fail, by the name of the package."""
    text = (ROOT / "setup.py").read_text().replace('"tqdm>=4.66.3"', '"tqdm>=4.66.3.1"')
    assert "4.66.3.1" in text
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / SCRIPT.name).write_bytes(SCRIPT.read_bytes())
    (tmp_path / "mm_adapter").mkdir()
    (tmp_path / "mm_adapter" / "__init__.py").write_text('__version__ = "1"\n')
    (tmp_path / "README.md").write_text("")
    (tmp_path / "setup.py").write_text(text)
    command = [sys.executable, tmp_path / "scripts" / SCRIPT.name, "--bounds"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 1
    assert "Failed to fetch" in done.stderr or "setup.py: tqdm>=4.66.3.1, but the lowest is 4.66.4" in done.stderr
