"""Everything documented is run: each command and all Python of every page, on small inputs; links lead somewhere."""

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from documented import ROOT, Shown, broken_links, shown_commands, shown_python
from safetensors.torch import load_file, save_file

from mm_adapter.cli import COMMANDS, main

SAVED = ROOT / "tests" / "saved"
SMALL = [
    "--llama",
    "llama",
    "--layers",
    "2",
    "--prompt-length",
    "3",
    "--epochs",
    "0.1",
    "--warmup-epochs",
    "0",
    "--max-length",
    "700",
    "--batch-size",
    "8",
    "--device",
    "cpu",
    "--dtype",
    "float32",
    "--quantization",
    "none",
    "--features",
    "features",
    "--quiet",
]
# What makes a command small, behind what it says itself: of an option that is given twice, the last one counts.
MORE: dict[str, list[str]] = {
    "train": SMALL,
    "demo": [*SMALL[:-3], "--quiet", "--size", "60"],
    "ablate": ["--dry-run"],
    "features": ["--vision", "efficientnet-lite0", "--device", "cpu", "--quiet"],
    "evaluate": ["--llama", "llama", "--device", "cpu", "--features", "features", "--quiet"],
    "probe": ["--llama", "llama", "--features", "features", "--quiet"],
    "answer": ["--llama", "llama", "--max-new-tokens", "4"],
    "generate": ["--llama", "llama", "--max-new-tokens", "4"],
    "publish": ["--dry-run"],
    "serve": ["--llama", "llama", "--port", "0"],
    "chat": ["--llama", "llama", "--max-new-tokens", "4", "--quantization", "none"],
}
ADDED = {"--data": ("DIR", ("train", "ablate")), "--out": ("OUT", ("train", "ablate", "demo", "demo-data"))}
SHOWN = shown_commands()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> Path:
    """A folder in which everything that the pages name is there, by that name."""
    folder = tmp_path_factory.mktemp("stage")
    for name, source in {
        "llama": "llama",
        "saved/llama": "llama",
        "LLAMA": "llama",
        "RUN": "pictures",
        "run": "conversations",
    }.items():
        shutil.copytree(SAVED / source, folder / name)
    shutil.copytree(SAVED / "text", folder / "OTHER")
    shutil.copytree(folder / "RUN", folder / "demo" / "multimodal")
    shutil.copytree(demo_folder, folder / "DIR")
    # What is here by the name wins over the set that would be fetched.
    shutil.copytree(demo_folder, folder / "easy-vqa")
    picture = sorted((folder / "DIR" / "images" / "test").glob("*/image.png"))[0]
    (folder / "demo" / "data" / "images" / "test" / "18").mkdir(parents=True)
    for name in ("FILE", "photo.jpg", "demo/data/images/test/18/image.png"):
        shutil.copy(picture, folder / name)
    (folder / "conversations").mkdir()
    for split in ("train", "val", "test"):
        shutil.copy(SAVED / "conversations" / "instructions.json", folder / "conversations" / f"{split}.json")
    cells = ["".join(f"q{i}?,red,blue,{'AB'[i % 2]},FILE,x\n" for i in range(20))]
    for name, header in {"table.csv": "image,source", "export.csv": "photo,notes"}.items():
        (folder / name).write_text("".join([f"question,A,B,answer,{header}\n", *cells]))
    (folder / "prompts.jsonl").write_text('{"instruction": "Name a fruit."}\n')
    (folder / "mine.yaml").write_text("layers: 4\n")
    where = ["--data", "DIR", "--features", "features", "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for run in ("RUN", "OTHER"):
            asked = ["--adapter", run, "--llama", "llama", "--out", f"{run}/test"]
            assert main(["evaluate", *asked, *where]) == 0
        assert main(["probe", "--adapter", "RUN", "--llama", "llama", "--out", "RUN/probe", *where]) == 0
        # PEFT has one gate a layer: an adapter with equal gates goes there and comes back.
        shutil.copytree("OTHER", "EVEN")
        tensors = load_file("EVEN/adapter_model.safetensors")
        tensors["gates"] = tensors["gates"].mean(dim=1, keepdim=True).expand_as(tensors["gates"]).contiguous()
        save_file(tensors, "EVEN/adapter_model.safetensors")
        assert main(["convert", "--to", "peft", "--adapter", "EVEN", "--llama", "llama", "--out", "FOLDER"]) == 0
        shutil.copytree("RUN/test", "OUT")
        shutil.copy("RUN/test/official.json", "OTHER.json")
    return folder


def small(words: list[str], fresh: Path) -> list[str]:
    """Return the arguments of a shown ``mm-adapter`` command, made small and to write into a fresh folder."""
    command, text = words[0], " ".join(words)
    if command in ("score", "report", "leaderboard") and "--predictions" in words:
        words = ["OUT/predictions.jsonl" if word == "FILE" else word for word in words]
        words = ["OTHER/test/predictions.jsonl" if word == "OTHER" else word for word in words]
    if command == "report":
        words = ["OTHER/test" if word == "OTHER" else word for word in words]
    for option, (value, commands) in ADDED.items():
        if command in commands and option not in words and not {"--print-config", "--help"} & set(words):
            words = [*words, option, value]
    about_text = "alpaca" in text or "--data FILE" in text
    for index, word in enumerate(words):
        before = words[index - 1] if index else ""
        if before == "--out":
            words[index] = str(fresh / "out")
        elif before == "--data" and about_text:
            words[index] = "conversations"
        elif before == "--data" and word.startswith("../"):
            words[index] = "DIR"
    given = {
        "https://...": "https://example.org/run",
        "GRID": "demo",
        "COMMAND": "train",
        "PATH": "RUN",
        "NAME": "llama",
        "hub:USER/NAME": "RUN",  # of the hub: tests/cli/test_publish_command.py
    }
    words = [given.get(word, word) for word in words]
    if command == "publish" and "--out" in words:
        return words
    if "--help" in words or "--print-config" in words or command not in MORE:
        return words
    more = MORE[command]
    if command == "train" and (about_text or "--method" in words):
        more = [*more, "--vision", "none"]
    elif command == "train" and "--vision" not in words:
        more = [*more, "--vision", "efficientnet-lite0"]
    return [*words, *more]


def of_program(name: str) -> list[Shown]:
    """Return the shown commands of one program."""
    return [command for command in SHOWN if command.words[0] == name]


def ended_when_it_serves(errors: io.StringIO) -> None:
    """Send SIGTERM to this process as soon as a server in it, which handles the signal, says that it serves."""
    for _ in range(1200):
        if "serving on http" in errors.getvalue():
            os.kill(os.getpid(), signal.SIGTERM)
            return
        time.sleep(0.05)


@pytest.mark.parametrize("shown", of_program("mm-adapter"), ids=str)
def test_commands(shown: Shown, stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every documented command runs, or names a command that is there."""
    words = list(shown.words[1:])
    if not words or words[0].endswith(":"):
        return  # the program's name, or a message of it
    if "--log-to" in words and find_spec(words[words.index("--log-to") + 1]) is None:
        pytest.skip("the tracker is not installed")
    assert words[0] in COMMANDS or words[0].startswith("--") or words == ["COMMAND", "--help"]
    if len(words) == 1 and shown.page != "usage.md" and words[0] not in ("demo", "leaderboard"):
        return
    if len(words) == 1 and words[0] not in ("leaderboard", "--help", "--version"):
        words = [*words, "--help"]
    monkeypatch.chdir(stage)
    if words[0] == "cache":  # never that of whoever runs the tests
        monkeypatch.setenv("MM_ADAPTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hello\n/quit\n"))
    errors = io.StringIO()
    if words[0] == "serve":
        monkeypatch.setattr("webbrowser.open", lambda _: True)
        # It ends as it would on a machine that is wanted back.
        threading.Thread(target=ended_when_it_serves, args=(errors,), daemon=True).start()
    with contextlib.redirect_stderr(errors):
        status = main(small(words, tmp_path))
    if words[:2] == ["leaderboard", "add"]:
        # Sixty questions are not the official test split: that is what it must say.
        assert status == 2
        assert "4,241" in errors.getvalue() or "official" in errors.getvalue()
        return
    assert status == 0, errors.getvalue()


@pytest.mark.parametrize("shown", of_program("make"), ids=str)
def test_make_targets(shown: Shown) -> None:
    """Every target that is documented is one of the Makefile."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(shown.words[1:]) <= set(targets)


@pytest.mark.parametrize("shown", of_program("python"), ids=str)
def test_scripts(shown: Shown, stage: Path) -> None:
    """Every script that is documented is there and has the options that are shown; the quick one is run."""
    if shown.words[1] == "-m":
        assert shown.words[2] == "pytest" or find_spec(shown.words[2]) is not None
        return
    script = ROOT / shown.words[1]
    assert script.is_file()
    if script.name == "baseline_retrieval.py":
        done = subprocess.run([sys.executable, script, *shown.words[2:]], cwd=stage, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "NAT" in done.stdout
        return
    source = script.read_text(encoding="utf-8") + (ROOT / "scripts" / "tiny.py").read_text(encoding="utf-8")
    for option in (word for word in shown.words[2:] if word.startswith("--")):
        assert f'"{option}"' in source, f"{script.name} has no {option}"


@pytest.mark.parametrize("shown", of_program("torchrun"), ids=str)
@pytest.mark.slow
def test_many_processes(shown: Shown, stage: Path, tmp_path: Path) -> None:
    """What is shown under torchrun runs with two processes on the CPU."""
    words = list(shown.words)
    if not any(word.endswith(".py") or word == "-m" for word in words):
        return  # the launcher's own options
    words[words.index("--nproc-per-node") + 1] = "2"
    start = next(index for index, word in enumerate(words) if word.endswith(".py") or word == "mm_adapter")
    command = "train" if "train" in words[start] else "evaluate" if "evaluate" in words[start] else words[start + 1]
    rest = words[start + 1 :] if words[start].endswith(".py") else words[start + 2 :]
    arguments = small([command, *rest], tmp_path)
    program = [str(ROOT / words[start])] if words[start].endswith(".py") else ["-m", "mm_adapter", command]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*launcher, *program, *arguments[1:]], cwd=stage, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(("page", "code"), shown_python(), ids=[page for page, _ in shown_python()])
def test_python(page: str, code: str, stage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every piece of Python runs as it stands, in a folder where what it names is there."""
    monkeypatch.chdir(stage)
    from mm_adapter.data.question import Question
    from mm_adapter.eval.record import Prediction

    def system(questions: list[Question]) -> list[Prediction]:
        return [Prediction(question.pid, 0) for question in questions]

    code = code.replace('adapter="hub:USER/NAME"', 'adapter="RUN"')
    code = code.replace('adapter="RUN"', 'llama="llama", adapter="RUN"')
    exec(compile(code, page, "exec"), {"system": system})


def test_links() -> None:
    """Every link to a file or heading of the project leads there."""
    assert broken_links() == []


def test_the_readme_is_short() -> None:
    """It is read in one go: at most 120 lines, with a picture, the two set-up commands, and where to read on."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert "make demo" in text
    assert "make test" in text
    assert re.search(r"!\[[^\]]+\]\([^)]+\.svg\)", text)
    assert not re.search(r"\b[A-Z]+_OUTPUT\b", text), "a placeholder stands where an output should"
