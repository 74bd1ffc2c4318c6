"""Built, installed and used beside somebody else's packages: wheel and sdist hold one top-level package."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SAVED = ROOT / "tests" / "saved"
KEPT_OUT = (".*", "build", "dist", "*.egg-info", "__pycache__", "demo", "runs", "saved")
MAIN = """
import data, eval, scripts
from mm_adapter import MultimodalLlama, __version__
from mm_adapter.data.question import Question
from mm_adapter.eval.metrics import COLUMNS
import mm_adapter.model
assert data.OWN and eval.OWN and scripts.OWN
print(__version__, MultimodalLlama.__name__)
"""


def run(command: list[object], folder: Path, **more: str) -> str:
    """Run a command that must succeed; return what it printed."""
    # Nothing of the checkout may be found: neither its folder nor its editable install.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env={**environment, **more}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An sdist of a copy of the checkout, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("built")
    source = shutil.copytree(ROOT, folder / "source", symlinks=True, ignore=shutil.ignore_patterns(*KEPT_OUT))
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", source], folder)
    return {"wheel": next((folder / "dist").glob("*.whl")), "sdist": next((folder / "dist").glob("*.tar.gz"))}


def test_a_wheel_holds_one_package(built: dict[str, Path]) -> None:
    """Beside its own metadata there is ``mm_adapter`` alone, with data, evaluation, types and files."""
    names = zipfile.ZipFile(built["wheel"]).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mm_adapter"}
    wanted = (
        "data/question.py",
        "eval/metrics.py",
        "py.typed",
        "presets/demo.toml",
        "eval/leaderboard/published.csv",
        "serving/page/ask.js",
    )
    assert {f"mm_adapter/{name}" for name in wanted} <= set(names)
    metadata = zipfile.ZipFile(built["wheel"]).read(next(name for name in names if name.endswith("METADATA"))).decode()
    for field in (
        "License-Expression: Apache-2.0",
        "Keywords:",
        "Classifier:",
        "Description-Content-Type: text/markdown",
    ):
        assert field in metadata


def test_an_sdist_holds_the_whole_source(built: dict[str, Path]) -> None:
    """Data and evaluation lie in the package there, once, and what is needed to test it is with it."""
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = ("mm_adapter/data/question.py", "mm_adapter/eval/metrics.py", "LICENSE", "CHANGELOG.md", "Makefile")
    assert {*wanted, "tests/test_installed.py", "docs/index.md", "scripts/check_ranks.py"} <= names
    assert not any(name.startswith(("data/", "eval/")) for name in names)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installed_beside_packages_of_the_same_names(
    built: dict[str, Path], kind: str, demo_folder: Path, tmp_path: Path
) -> None:
    """In a project with data, eval and scripts of its own, import and commands work in a clean environment."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    packages = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path).strip())
    # What the package needs is there already: a path in a .pth file brings modules, not other .pth files, such as that
    # of an editable install.
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--quiet", "--no-index"]
    run([*install, "--ignore-installed", built[kind]], tmp_path)
    project = tmp_path / "project"
    for name in ("data", "eval", "scripts"):
        (project / name).mkdir(parents=True)
        (project / name / "__init__.py").write_text("OWN = True\n")
    (project / "main.py").write_text(MAIN)
    assert run([python, "main.py"], project).endswith("MultimodalLlama\n")
    where = run([python, "-c", "import mm_adapter.data as found; print(found.__file__)"], project)
    assert Path(where.strip()).is_relative_to(packages)
    command = tmp_path / "env" / "bin" / "mm-adapter"
    assert "llama" in run([command, "inspect", SAVED / "llama"], project).lower()
    scored = run(
        [command, "score", "--predictions", SAVED / "text" / "expected_predictions.jsonl", "--data", demo_folder],
        project,
    )
    assert "NAT" in scored
    assert "adapter" in run([python, "-m", "mm_adapter", "--version"], project)
