"""Some hostile inputs of ``scripts/check_hostile_input.py``, and what the check finds where something is wrong."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostile_process import Hostile, command, forked, reading, snapshot, verdict

from mm_adapter.core.errors import UserError

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "check_hostile_input.py"


def test_hostile_inputs(tmp_path: Path) -> None:
    """Pictures, texts, datasets, models and requests: each is refused by one clear message or answered rightly."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    # From the sixth on: the first request of all is a client that takes eight seconds.
    options = ["--count", "40", "--start", "5", "--seed", "15", "--json", str(tmp_path / "bars.json")]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    bars = json.loads((tmp_path / "bars.json").read_text())["bars"]
    assert len(bars) == 5
    assert bars[0]["value"] == 40
    assert all(bar["holds"] for bar in bars)


@pytest.fixture
def shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a second in place of ten."""
    monkeypatch.setattr("hostile_process.SECONDS", 0.5)
    monkeypatch.setattr("hostile_process._KILLED_AFTER", 1.0)


def tried(act: object, **more: bool) -> str:
    """Return what the check says of an input that is read by a function."""
    hostile = Hostile("input", "tables", reading(act), **more)  # type: ignore[arg-type]
    return verdict(hostile.act(), hostile)


def refuse(words: str) -> None:
    """Refuse as a reader does."""
    raise UserError(words)


def test_the_check_finds_what_is_wrong(shortened: None) -> None:
    """A traceback, a death, a hang, an error without words or with too many, an answer where none may be."""
    assert tried(lambda: refuse("table.csv, line 3: more cells than columns.")) == ""
    assert tried(lambda: "an answer") == ""
    assert "KeyError" in tried(lambda: {}["missing"])
    assert "the process died" in tried(lambda: os._exit(3))
    assert "it hung" in tried(lambda: time.sleep(60))
    assert "took " in tried(lambda: time.sleep(0.7))
    assert "one clear message" in tried(lambda: refuse("no"))
    assert "one clear message" in tried(lambda: refuse("two lines\nmm-adapter: and another message of some length"))
    assert "characters" in tried(lambda: refuse("x" * 5000))
    assert tried(lambda: "an answer", must_fail=True) == "was taken"


def test_the_check_measures_memory_and_files(tmp_path: Path) -> None:
    """The peak of the process alone that dealt with an input, and what it left anywhere but where it may."""
    (tmp_path / "out").mkdir()
    # In a process without a past: one that has freed gigabytes gives of them before it asks for more.
    program = (
        "from hostile_process import forked; print(*(forked(lambda: (0, len(bytearray(size)))).peak for size in {}))"
    )
    command = [sys.executable, "-c", program.format((1 << 20, 300 << 20))]
    printed = subprocess.run(command, cwd=SCRIPT.parent, check=True, stdout=subprocess.PIPE, text=True).stdout
    small, large = map(int, printed.split())
    assert 200 << 20 < large - small < 400 << 20
    before = snapshot(tmp_path, (tmp_path / "out",))
    forked(lambda: (0, [(tmp_path / "out" / "a").write_text("a"), (tmp_path / "b").write_text("b")]))
    after = snapshot(tmp_path, (tmp_path / "out",))
    assert after.keys() - before.keys() == {str(tmp_path / "b")}


def test_commands_run_as_they_do_in_a_shell() -> None:
    """Status, words on both streams and standard input."""
    refused = command("answer", "--adapter", "none", "--llama", "/nowhere", "--question", "a")()
    assert refused.status == 2
    assert "mm-adapter: /nowhere: no such file or folder" in refused.said
    assert command("--version")().said.startswith("mm-adapter ")
