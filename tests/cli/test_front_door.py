"""Before anything runs: version, completion, settings and their origins, a dry run, and what is imported for it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mm_adapter import __version__
from mm_adapter.cli import COMMANDS
from mm_adapter.training.sources import toml_value

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_version(command: Callable[..., Any]) -> None:
    """Name and version, as the package has it."""
    assert command("--version").out == f"mm-adapter {__version__}\n"
    ran = subprocess.run([sys.executable, "-m", "mm_adapter", "--version"], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, f"mm-adapter {__version__}\n")


def test_help_of_the_program(command: Callable[..., Any]) -> None:
    """All commands with what they do."""
    outcome = command("--help")
    assert outcome.status == 0
    assert all(f"\n  {name}\n" in outcome.out for name in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["train", "--help"], ["completion", "bash"], ["train", "--print-config"], ["train", "--dta"]],
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    """Help, completion, settings and typing errors need neither torch nor numpy."""
    code = (
        "import sys; from mm_adapter.cli import main; main(sys.argv[1:]); "
        "print([name for name in ('torch', 'numpy', 'transformers', 'rich.markdown') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr


# Completion


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The completion script of bash."""
    path = tmp_path_factory.mktemp("completion") / "mm-adapter.bash"
    with open(path, "w") as file:
        assert subprocess.run([sys.executable, "-m", "mm_adapter", "completion", "bash"], stdout=file).returncode == 0
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], ["train"]),
        (["train", "--shard"], ["--sharding"]),
        (["train", "--sharding", ""], ["none", "full"]),
        (["evaluate", "--images", "sh"], ["shuffled"]),
    ],
)
def test_bash_completes(script: Path, words: list[str], expected: list[str]) -> None:
    """Commands, options and values, from a script that starts no Python."""
    line = " ".join(["mm-adapter", *words])
    code = (
        f"source {script}; COMP_WORDS=(mm-adapter {' '.join(repr(word) for word in words)}); "
        f"COMP_CWORD={len(words)}; COMP_LINE={line!r}; COMP_POINT={len(line)}; "
        "call=$(complete -p mm-adapter | sed 's/.*-F \\([^ ]*\\) .*/\\1/'); $call; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    ran = subprocess.run(["bash", "-c", code], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert ran.stdout.split() == expected, ran.stderr


def test_bash_falls_back_to_file_names(script: Path, tmp_path: Path) -> None:
    """Where the script has no words of its own, it gives none, and bash was told to complete file names then."""
    line = f"mm-adapter train --data {tmp_path}/te"
    code = (
        f"source {script}; complete -p mm-adapter; COMP_WORDS=({line}); COMP_CWORD=3; COMP_LINE='{line}'; "
        "COMP_POINT=${#COMP_LINE}; COMPREPLY=(); "
        "$(complete -p mm-adapter | sed 's/.*-F \\([^ ]*\\) .*/\\1/'); echo ${#COMPREPLY[@]}"
    )
    ran = subprocess.run(["bash", "-c", code], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    told, count = ran.stdout.splitlines()
    assert "-o bashdefault" in told
    assert "-o default" in told
    assert count == "0", ran.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_every_shell(command: Callable[..., Any], shell: str) -> None:
    """A script that names the program and its commands."""
    outcome = command("completion", shell)
    assert outcome.status == 0
    assert all(name in outcome.out for name in ("mm-adapter", *COMMANDS))


# Settings


def origins(text: str) -> dict[str, tuple[str, str]]:
    """Return key -> value and origin, of what --print-config prints."""
    lines = [line.split(" = ", 1) for line in text.splitlines()]
    return {key.strip(): (value.split("#")[0].strip(), value.split("# ")[1]) for key, value in lines}


@pytest.mark.parametrize(("name", "text"), [("mine.toml", "{} = {}\n"), ("mine.yaml", "{}: {}\n"), ("mine.json", None)])
def test_origins_of_settings(command: Callable[..., Any], tmp_path: Path, name: str, text: str | None) -> None:
    """Default, preset, config file, option: later ones win, and each value says where it is from."""
    config = tmp_path / name
    chosen = {"layers": 12, "epochs": 2, "base_lr": "1e-3"}
    lines = "" if text is None else "".join(text.format(*pair) for pair in chosen.items())
    config.write_text(lines or json.dumps({**chosen, "base_lr": 1e-3}))
    outcome = command("train", "--preset", "demo", "--config", config, "--epochs", "3", "--print-config")
    assert (outcome.status, outcome.err) == (0, "")
    found = origins(outcome.out)
    assert found["lora_rank"] == ("8", "default")
    assert found["batch_size"] == ("16", "preset demo")
    assert found["layers"] == ("12", f"config {config}")
    assert found["base_lr"] == ("0.001", f"config {config}")
    assert found["epochs"] == ("3.0", "option")


@pytest.mark.parametrize("options", [[], ["--llama", 'a"b\\c'], ["--llama", "é\t\x7f'"]])
def test_printed_settings_are_a_config_file(command: Callable[..., Any], tmp_path: Path, options: list[str]) -> None:
    """What is printed can be given again, quotes and backslashes too."""
    printed = command("train", "--preset", "paper-7b", *options, "--print-config").out
    if options:
        assert tomllib.loads(printed)["llama"] == options[1]
    (tmp_path / "again.toml").write_text(printed)
    again = command("train", "--config", tmp_path / "again.toml", "--print-config").out
    assert {key: value for key, (value, _) in origins(again).items()} == {
        key: value for key, (value, _) in origins(printed).items()
    }


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("mine.yaml", "layrs: 3", "did you mean 'layers'"),
        ("mine.yaml", "layers: '3'", "layers is '3'; it must be a whole number"),
        ("mine.yaml", "- 3", "holds no settings"),
        ("mine.yaml", "layers: [", "not a YAML file"),
        ("mine.yaml", "layers: 3\nepochs: 2\nlayers: 4", "the key 'layers' stands twice"),
        ("mine.yaml", "[a]: 3", "not a YAML file"),
        ("mine.yml", "clip: 1.0", "it is now max_grad_norm"),
        ("mine.toml", "layers = ", "not a TOML file"),
        ("mine.txt", "{}", "ends in .toml, .yaml, .yml or .json"),
        ("mine.json", "[]", "holds no settings"),
        ("mine.json", '{"layrs": 3}', "did you mean 'layers'"),
        ("nowhere.yaml", None, "cannot be read"),
    ],
)
def test_bad_config_file(refused: Callable[..., str], tmp_path: Path, name: str, text: str | None, said: str) -> None:
    """The file is named, and what is wrong in it."""
    if text is not None:
        (tmp_path / name).write_text(text)
    message = refused("train", "--config", tmp_path / name, "--print-config")
    assert name in message
    assert said in message


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("llama: 1e5-model", "llama", '"1e5-model"'),
        ("base_lr: 1.5e3", "base_lr", "1500.0"),
        ("base_lr: .5e-1", "base_lr", "0.05"),
        ("base_lr: 1e-3", "base_lr", "0.001"),
    ],
)
def test_numbers_of_yaml(command: Callable[..., Any], tmp_path: Path, text: str, key: str, value: str) -> None:
    """What has an exponent is a number, what only begins like one is text."""
    (tmp_path / "mine.yaml").write_text(text)
    outcome = command("train", "--config", tmp_path / "mine.yaml", "--print-config")
    assert (outcome.status, outcome.err) == (0, "")
    assert origins(outcome.out)[key][0] == value


def test_print_config_checks(refused: Callable[..., str]) -> None:
    """Settings that exclude one another are refused before they are printed."""
    assert "warmup_epochs 9.0 is more than epochs" in refused("train", "--warmup-epochs", "9", "--print-config")


# A dry run


def test_dry_run_writes_nothing(
    command: Callable[..., Any], tiny_folder: Path, demo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data with counts, model, output and parameters by formula; the same parameters as a run has."""
    monkeypatch.chdir(tmp_path)
    options = ["--layers", "2", "--prompt-length", "3", "--batch-size", "8", "--epochs", "1", "--vision", "none"]
    where = ["--llama", tiny_folder, "--data", demo_folder, "--out", tmp_path / "run"]
    outcome = command("train", *where, *options, "--dry-run")
    assert outcome.status == 0, outcome.err
    assert "46 questions to train on" in outcome.out
    assert str(tiny_folder) in outcome.out
    assert f"{2 * 3 * 48 + 2 * 6:,} trained" in outcome.out
    assert "6 (batch 8), 6 an epoch" in outcome.out
    assert f"{tmp_path / 'run'}: begins anew" in outcome.out
    assert list(tmp_path.iterdir()) == []


def test_dry_run_refuses_what_a_run_would(
    refused: Callable[..., str], text_run: Path, demo_folder: Path, tmp_path: Path
) -> None:
    """Data that is not there, and a folder that holds a run."""
    assert "does not exist" in refused("train", "--data", tmp_path / "no", "--out", tmp_path / "run", "--dry-run")
    assert "holds a run" in refused("train", "--data", demo_folder, "--out", text_run, "--dry-run")


def test_dry_run_begins_as_a_run_would(
    command: Callable[..., Any], refused: Callable[..., str], text_run: Path, demo_folder: Path, tmp_path: Path
) -> None:
    """What a folder holds decides, for a dry run and a run alike; nothing in it changes."""
    finished = shutil.copytree(text_run, tmp_path / "finished")
    stateful = shutil.copytree(text_run, tmp_path / "stateful")
    (stateful / "run.json").unlink()
    (stateful / "states").mkdir()
    (stateful / "states" / f"00000001-{hashlib.sha256(b'state').hexdigest()[:16]}.pt").write_bytes(b"state")
    damaged = shutil.copytree(stateful, tmp_path / "damaged")
    next((damaged / "states").iterdir()).write_bytes(b"half")
    config = tmp_path / "config.toml"
    settings = json.loads((text_run / "config.json").read_text())
    config.write_text("".join(f"{key} = {toml_value(value)}\n" for key, value in settings.items()))
    words = ["train", "--config", config, "--data", demo_folder]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def said(out: Path, *more: Any) -> str:
        outcome = command(*words, "--out", out, *more, "--dry-run")
        assert outcome.status == 0, outcome.err
        return str(outcome.out)

    assert "come to its end already" in said(finished, "--resume", "auto")
    assert "goes on from the last state" in said(stateful, "--resume")
    assert "goes on from the last state" in said(stateful, "--resume", "auto")
    assert "begins anew" in said(damaged, "--resume", "auto")
    assert "begins anew" in said(tmp_path / "nowhere", "--resume", "auto")
    for out, more, text in [
        (stateful, [], "holds a run already"),
        (stateful, ["--resume", "--layers", "1"], "made with other settings (layers: 2, now 1)"),
        (finished, ["--resume"], "come to its end already"),
        (damaged, ["--resume"], "damaged state"),
        (tmp_path / "nowhere", ["--resume"], "there is no state to go on from"),
        (tmp_path / "nowhere", ["--image-folder", tmp_path], "--image-folder: pictures of questions"),
    ]:
        for mode in (["--dry-run"], ["--quiet"]):
            assert text in refused(*words, "--out", out, *more, *mode)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_states_alone_are_a_run(refused: Callable[..., str], demo_folder: Path, tmp_path: Path) -> None:
    """A run that was cut before its first validation has states and no adapter."""
    (tmp_path / "states").mkdir()
    (tmp_path / "states" / "00000001-0123456789abcdef.pt").write_bytes(b"")
    for mode in (["--dry-run"], ["--quiet"]):
        assert "holds a run already" in refused("train", "--data", demo_folder, "--out", tmp_path, *mode)


# Streams


def test_colours_and_terminals_change_nothing() -> None:
    """NO_COLOR and TERM=dumb: plain text is what there is anyway."""
    texts = []
    for more in ({}, {"NO_COLOR": "1"}, {"TERM": "dumb"}, {"FORCE_COLOR": "1"}):
        environment = {**os.environ, "COLUMNS": "80", **more}
        command = [sys.executable, "-m", "mm_adapter", "score", "--help"]
        texts.append(subprocess.run(command, capture_output=True, text=True, env=environment).stdout)
    assert set(texts) == {texts[0]}
    assert "\x1b" not in texts[0]


def test_origins_are_not_written(text_run: Path) -> None:
    """A run folder holds settings by the names of today."""
    settings = json.loads((text_run / "config.json").read_text())
    assert "base_lr" in settings
    assert "base_rate" not in settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--llama", "smollm"], "smollm: no such file or folder"),
        (["--llama", "llama-7b"], "llama-7b: no such file or folder"),
        (["--layers", "999"], "999"),
        (["--vision", "vit"], "knows no 'vit'"),
    ],
)
def test_a_dry_run_refuses_what_the_run_would(
    refused: Callable[..., str],
    tiny_folder: Path,
    demo_folder: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
) -> None:
    """Names that nobody knows and sizes that cannot be are errors of a dry run too."""
    where = ["--llama", tiny_folder, "--vision", "none", "--data", demo_folder, "--out", tmp_path / "run"]
    assert message in refused("train", *where, *options, "--dry-run")


@pytest.mark.parametrize("option", ["--lr", "--learning-rate"])
def test_the_usual_names_of_the_learning_rate_lead_to_ours(refused: Callable[..., str], option: str) -> None:
    """What people type first is answered by the option that there is, not by one that looks alike."""
    assert "--base-lr is the learning rate for a batch of 256" in refused("train", option, "0.1")
