"""A terminal that shows ASCII alone, a home that cannot be written, text in another encoding: an answer or one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from table_forms import cells, png

PLACE = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "HOME": "/proc/nowhere", "OMP_NUM_THREADS": "1"}


def run(*words: object, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    kept = {key: os.environ[key] for key in ("PATH", "PYTHONPATH", "MPLCONFIGDIR") if key in os.environ}
    command = [sys.executable, "-m", "mm_adapter", *map(str, words)]
    return subprocess.run(command, env=kept | PLACE, input=text, capture_output=True, check=False, timeout=200)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="a home that nobody can write is /proc here")
def test_every_command_ends_in_an_answer_or_one_line(tiny_folder: Path, tmp_path: Path) -> None:
    """What is written has numbers for letters that cannot be shown; what is refused says why."""
    model = ["--adapter", "none", "--llama", tiny_folder]
    done = run("answer", *model, "--question", "Wie heißt es?", "--choices", "ä", "ö")
    assert done.returncode == 0, done.stderr
    assert rb"\xe4" in done.stdout
    refusals = [
        run("generate", *model, "--max-new-tokens", "2", text=b"caf\xe9\n"),
        run("chat", *model, "--max-new-tokens", "2", text=b"caf\xe9\n/quit\n"),
    ]
    (tmp_path / "a.png").write_bytes(png("red"))
    cells(tmp_path / "t.csv", [{"image": "a.png", "question": "ä?", "answer": "ö"}])
    refusals.append(run("features", "--vision", "efficientnet-lite0", "--data", tmp_path / "t.csv", "--out", tmp_path))
    for refused in refusals:
        assert refused.returncode == 2, refused
        lines = [line for line in refused.stderr.splitlines() if line.startswith(b"mm-adapter: ")]
        assert len(lines) == 1, refused.stderr
        assert b"Traceback" not in refused.stderr
    assert b"MM_ADAPTER_CACHE" in refusals[-1].stderr


def test_a_home_behind_an_equals_sign(tmp_path: Path) -> None:
    """Shells put it in only where a word begins with it."""
    cells(tmp_path / "t.csv", [{"question": "q?", "A": "x", "B": "y", "answer": "B"}] * 3)
    (tmp_path / "p.jsonl").write_text("".join(f'{{"pid": "{n}", "choice": 1}}\n' for n in range(3)))
    words = ["score", f"--predictions={tmp_path}/p.jsonl", "--data=~/t.csv"]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "mm_adapter", *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "100.00" in done.stdout
