"""The house stays small: few files at the top, none too long, names that say what a file holds, one way of imports."""

import ast
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mm_adapter"
MODULES = [path for folder in ("mm_adapter", "data", "eval") for path in (ROOT / folder).rglob("*.py")]


def test_the_rooms_hold_everything() -> None:
    """At most six files stand in the package beside its rooms."""
    assert len([path for path in PACKAGE.iterdir() if path.is_file()]) <= 6


def test_no_file_is_too_long() -> None:
    """A file of the package or a script is read in one go: at most 300 lines."""
    files = [*MODULES, *(ROOT / "scripts").glob("*.py")]
    long = {str(path): len(path.read_text().splitlines()) for path in files}
    assert {path: count for path, count in long.items() if count > 300} == {}


def test_names_say_what_a_file_holds() -> None:
    """No name of a module stands more than twice in the package."""
    own = Counter(path.stem for path in {path.resolve() for path in MODULES})
    free = ("__init__", "config", "conftest")
    assert {name: count for name, count in own.items() if count > 2 and name not in free} == {}


def test_data_and_eval_are_parts_of_the_package() -> None:
    """The two folders at the top of the repository are imported under the package's name alone."""
    for name in ("data", "eval"):
        assert (PACKAGE / name / "__init__.py").samefile(ROOT / name / "__init__.py")
    for path in [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            assert not {name.partition(".")[0] for name in names} & {"data", "eval"}, path


@pytest.mark.parametrize(
    ("place", "line", "broken"),
    [
        ("core/errors.py", "import mm_adapter.llama.config", "Imports run downwards only"),
        ("eval/metrics.py", "import mm_adapter.llama.config", "Evaluation knows questions and predictions, no model"),
        ("llama/config.py", "import mm_adapter.adapter", "Imports run downwards only"),
        ("llama/config.py", "import mm_adapter.llama.model", "No circle of rooms or files"),
    ],
)
def test_a_wrong_import_breaks_the_contract(tmp_path: Path, place: str, line: str, broken: str) -> None:
    """A contract that nothing can break would protect nothing: a wrong import in a copy makes the check fail."""
    for folder in ("mm_adapter", "data", "eval"):
        subprocess.run(["cp", "-R", "-P", ROOT / folder, tmp_path / folder], check=True)
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    lint = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    path = tmp_path / "mm_adapter" / place
    path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    done = subprocess.run(lint, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{broken} BROKEN" in done.stdout


@pytest.mark.slow
def test_little_stands_behind_a_command(tmp_path: Path) -> None:
    """Modules behind an answer and a training, and no torch behind help, score, leaderboard; untimed."""
    check = [sys.executable, ROOT / "scripts" / "check_structure.py", "--runs", "1", "--json", tmp_path / "bars.json"]
    subprocess.run(list(map(str, check)), check=False, capture_output=True)
    bars = json.loads((tmp_path / "bars.json").read_text())["bars"]
    assert len(bars) == 10
    assert [bar for bar in bars if not bar["holds"] and not bar["name"].startswith("seconds")] == []
