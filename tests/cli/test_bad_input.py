"""Every kind of bad input: exit status 2, one clear message that names the culprit, nothing lost or half-written."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# Base models


def gguf(path: Path) -> Path:
    """Write a small GGUF file."""
    import numpy as np
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(8)
    writer.add_tensor("token_embd.weight", np.zeros((16, 8), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    "fault", ["missing", "missing gguf", "truncated gguf", "no gguf", "truncated safetensors", "no safetensors", "text"]
)
@pytest.mark.parametrize("verb", ["train", "evaluate", "answer"])
def test_base_model_missing_or_truncated(refused, demo_folder, tiny_folder, tmp_path, fault, verb):
    """The model file is named; no run folder appears."""
    path = tmp_path / "model"
    if fault == "missing gguf":
        path = tmp_path / "model.gguf"
    elif fault == "truncated gguf":
        path = gguf(tmp_path / "model.gguf")
        path.write_bytes(path.read_bytes()[: path.stat().st_size - 300])
    elif fault == "no gguf":
        path = tmp_path / "model.gguf"
        path.write_bytes(b"GGUF")
    elif fault == "text":
        path.write_text("weights")
    elif "safetensors" in fault:
        shutil.copytree(tiny_folder, path)
        weights = path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000]) if "truncated" in fault else weights.unlink()
    arguments = {
        "train": ["--data", demo_folder, "--vision", "none", "--out", tmp_path / "out", "--quiet"],
        "evaluate": ["--adapter", "none", "--data", demo_folder, "--out", tmp_path / "out", "--quiet"],
        "answer": ["--adapter", "none", "--question", "Why?"],
    }[verb]
    assert str(path) in refused(verb, "--llama", path, *arguments)
    assert not (tmp_path / "out").exists()


# Adapters


@pytest.fixture
def other_base(tiny_folder, tmp_path):
    """The tiny model with other weights."""
    folder = shutil.copytree(tiny_folder, tmp_path / "other-base")
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = torch.randn_like(tensors[name])
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture
def evaluate_refused(refused, demo_folder, tmp_path):
    """Evaluate must refuse the adapter; nothing is written."""

    def run(*options):
        message = refused("evaluate", "--data", demo_folder, "--out", tmp_path / "out", "--quiet", *options)
        assert not (tmp_path / "out").exists()
        return message

    return run


def copied(run, tmp_path, edit):
    """Copy a run and edit its adapter_config.json."""
    folder = shutil.copytree(run, tmp_path / "edited")
    path = folder / "adapter_config.json"
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))
    return folder


def test_adapter_for_another_base(evaluate_refused, text_run, other_base, tiny_folder):
    """Both bases are named: the one it was trained on and the one that was given."""
    message = evaluate_refused("--adapter", text_run, "--llama", other_base)
    assert str(tiny_folder) in message
    assert str(other_base) in message


def test_adapter_for_another_tower(evaluate_refused, picture_run, store, tmp_path):
    """A tower with other weights gives other features; it is refused by name."""
    edited = copied(picture_run, tmp_path, lambda values: values["vision"].update(fingerprint="0" * 64))
    message = evaluate_refused("--adapter", edited, "--features", store)
    assert "efficientnet-lite0" in message
    assert "000000000000" in message


def test_adapter_with_another_way_of_looking(evaluate_refused, picture_run, tmp_path):
    """Fewer depths give narrower features than the projection was trained on."""
    edited = copied(picture_run, tmp_path, lambda values: values["vision"].update(depths=1))
    assert "width" in evaluate_refused("--adapter", edited, "--features", tmp_path / "store")


@pytest.mark.parametrize("change", [{"layers": 3}, {"prompt_length": 9}, {"layers": 40}, {"attention": "random-init"}])
def test_adapter_of_another_shape(evaluate_refused, text_run, tmp_path, change):
    """Configuration and weights that do not belong together."""
    edited = copied(text_run, tmp_path, lambda values: values["adapter"].update(change))
    message = evaluate_refused("--adapter", edited)
    assert "shape" in message or "layers" in message


@pytest.mark.parametrize("fault", ["folder", "config", "weights", "truncated", "json", "task", "nan"])
def test_adapter_missing_or_damaged(evaluate_refused, text_run, tmp_path, fault):
    """The file that is missing or damaged is named."""
    edited = shutil.copytree(text_run, tmp_path / "edited")
    config, weights = edited / "adapter_config.json", edited / "adapter_model.safetensors"
    named = edited
    if fault == "folder":
        shutil.rmtree(edited)
    elif fault == "config":
        config.unlink()
    elif fault == "weights":
        weights.unlink()
        named = weights
    elif fault == "truncated":
        weights.write_bytes(weights.read_bytes()[:-40])
        named = weights
    elif fault == "json":
        config.write_text(config.read_text()[:-20])
        named = config
    elif fault == "task":
        values = json.loads(config.read_text())
        values["task"] = {"tone": "polite"}
        config.write_text(json.dumps(values))
    else:
        save_file({name: tensor * float("nan") for name, tensor in load_file(weights).items()}, weights)
        named = weights
    assert str(named) in evaluate_refused("--adapter", edited)


# Data

FAULTS = {
    "not JSON": lambda data, pid: (data.folder / "problems.json").write_text('{"1": {"question": '),
    "no options": lambda data, pid: data.change("problems.json", lambda p: p[pid].update(choices=[])),
    "answer": lambda data, pid: data.change("problems.json", lambda p: p[pid].update(answer=7)),
    "negative": lambda data, pid: data.change("problems.json", lambda p: p[pid].update(answer=-1)),
    "no split": lambda data, pid: data.change("pid_splits.json", lambda s: s["test"].remove(pid)),
    "unknown pid": lambda data, pid: data.change("problems.json", lambda p: p.pop(pid)),
    "leaves": lambda data, pid: data.change("problems.json", lambda p: p[pid].update(image="../../../../etc/passwd")),
    "link": lambda data, pid: (data.image(pid).unlink(), data.image(pid).symlink_to("/etc/hostname")),
}
SAID = {
    "not JSON": "is not JSON",
    "no options": "no options",
    "answer": "out of range",
    "negative": "out of range",
    "no split": "in no split",
    "unknown pid": "problems.json does not have it",
    "leaves": "outside the data folder",
    "link": "outside the data folder",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("verb", ["train", "evaluate", "score", "features"])
def test_bad_data_is_refused(refused, broken_data, small, text_run, tmp_path, fault, verb):
    """Whatever reads the folder: file and pid are named, nothing is written."""
    pid = broken_data.pid()
    FAULTS[fault](broken_data, pid)
    out = tmp_path / "out"
    arguments = {
        "train": ["--out", out, *small],
        "evaluate": ["--adapter", text_run, "--out", out, "--quiet"],
        "score": ["--predictions", text_run / "run.json", "--json", out],
        "features": ["--vision", "efficientnet-lite0", "--out", out, "--quiet"],
    }[verb]
    message = refused(verb, "--data", broken_data.folder, *arguments)
    assert SAID[fault] in message
    assert str(broken_data.folder) in message
    assert fault == "not JSON" or f"'{pid}'" in message
    assert not out.exists()


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "not JSON"])
def test_bad_questions_can_be_skipped(command, broken_data, text_run, tmp_path, fault):
    """--skip-bad leaves them out by name; those of the split stand in the report and count as wrong."""
    pid = broken_data.pid()
    FAULTS[fault](broken_data, pid)
    out = tmp_path / "out"
    arguments = ["--adapter", text_run, "--data", broken_data.folder, "--out", out, "--quiet", "--skip-bad"]
    outcome = command("evaluate", *arguments)
    assert outcome.status == 0, outcome.err
    metrics = json.loads((out / "metrics.json").read_text())
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 8
    if fault == "no split":
        assert metrics["counts"]["acc_average"] == 8
        return
    assert metrics["counts"]["acc_average"] == 9
    assert list(metrics["skipped"]) == [pid]
    assert "1 bad questions were skipped; they count as wrong." in outcome.out
    assert f"| {pid} |" in (out / "report.md").read_text()
    scored = command(
        "score", "--predictions", out / "official.json", "--data", broken_data.folder, "--skip-bad", "--json",
        tmp_path / "scored.json",
    )  # fmt: skip
    assert scored.status == 0
    found = json.loads((tmp_path / "scored.json").read_text())
    assert {key: found[key] for key in metrics} == metrics


@pytest.mark.parametrize(
    ("split", "said"), [("tset", "did you mean 'test'"), ("empty", "it is empty"), ("minitest", "no split 'minitest'")]
)
def test_split_empty_or_missing(evaluate_refused, command, broken_data, text_run, tmp_path, split, said):
    """The splits that there are stand in the message."""
    broken_data.change("pid_splits.json", lambda splits: splits.update(empty=[]))
    for verb, options in {
        "evaluate": ["--adapter", text_run, "--out", tmp_path / "out"],
        "score": ["--predictions", text_run / "run.json"],
    }.items():
        outcome = command(verb, "--data", broken_data.folder, "--split", split, *options)
        assert outcome.status == 2
        assert said in outcome.err
        assert "train, " in outcome.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["nowhere", "a file", "empty folder"])
def test_no_data_there(refused, small, tmp_path, what):
    """A data folder that is not one."""
    path = tmp_path / "data"
    if what == "a file":
        path.write_text("")
    elif what == "empty folder":
        path.mkdir()
    assert str(path) in refused("train", "--data", path, "--out", tmp_path / "out", *small)
    assert not (tmp_path / "out").exists()


# Pictures


def break_picture(path, fault, make_png):
    if fault == "missing":
        path.unlink()
    elif fault == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes(
            {"text": b"no picture", "empty": b"", "0 pixels": make_png(0, 5), "bomb": make_png(60000, 60000)}[fault]
        )


PICTURE_FAULTS = ["missing", "truncated", "text", "empty", "0 pixels", "bomb"]


@pytest.mark.parametrize("fault", PICTURE_FAULTS)
def test_bad_picture(refused, command, broken_data, picture_run, store, tmp_path, make_png, fault):
    """Evaluation names the file and writes nothing; with --skip-bad the question counts as wrong, as a picture one."""
    pid = broken_data.pid()
    path = broken_data.image(pid)
    break_picture(path, fault, make_png)
    arguments = ["--adapter", picture_run, "--data", broken_data.folder, "--features", tmp_path / "store", "--quiet"]
    shutil.copytree(store, tmp_path / "store")
    out = tmp_path / "out"
    message = refused("evaluate", *arguments, "--out", out)
    assert str(path) in message
    assert fault != "bomb" or "decompression bomb" in message
    assert not out.exists()
    assert command("evaluate", *arguments, "--out", out, "--skip-bad").status == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics["skipped"]) == [pid]
    assert (metrics["counts"]["acc_average"], metrics["counts"]["acc_has_image"]) == (9, 5)
    assert f"| {pid} |" in (out / "report.md").read_text()
    results = json.loads((out / "official.json").read_text())["results"]
    assert results[pid] == -1
    scored = tmp_path / "scored.json"
    arguments = ["--predictions", out / "predictions.jsonl", "--data", broken_data.folder, "--json", scored]
    assert command("score", *arguments).status == 0
    assert json.loads(scored.read_text())["official"] == metrics["official"]


def test_bad_picture_in_training(refused, command, broken_data, tiny_folder, store, tmp_path):
    """Training stops before it writes, or leaves the question out and says which; text-only runs need no pictures."""
    pid = broken_data.pid("train")
    path = broken_data.image(pid, "train")
    path.write_bytes(b"no picture")
    shutil.copytree(store, tmp_path / "store")
    small = ["--llama", tiny_folder, "--layers", "1", "--epochs", "0.1", "--warmup-epochs", "0", "--quiet"]
    arguments = ["--data", broken_data.folder, *small, "--features", tmp_path / "store"]
    assert str(path) in refused("train", *arguments, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
    outcome = command("train", *arguments, "--out", tmp_path / "run", "--skip-bad")
    assert outcome.status == 0
    assert f"skipped {pid}: " in outcome.err
    assert list(json.loads((tmp_path / "run" / "run.json").read_text())["skipped"]) == [pid]
    assert command("train", *arguments, "--vision", "none", "--out", tmp_path / "text").status == 0


# Length


def test_question_longer_than_the_context(refused, command, broken_data, small, text_run, tmp_path):
    """A question that cannot be shortened enough is named with its length; skipped, it counts as wrong."""
    pid = broken_data.pid(picture=False)
    broken_data.change("problems.json", lambda problems: problems[pid].update(question="long " * 300))
    arguments = ["--adapter", text_run, "--data", broken_data.folder, "--out", tmp_path / "out", "--quiet"]
    message = refused("evaluate", *arguments)
    assert f"question {pid}: needs" in message
    assert not (tmp_path / "out").exists()
    assert command("evaluate", *arguments, "--skip-bad").status == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(metrics["skipped"]) == [pid]
    assert metrics["counts"]["acc_average"] == 9
    data = ["--data", broken_data.folder, "--out", tmp_path / "run"]
    assert "none of the" in refused("train", *data, *small, "--max-length", "16", "--skip-bad")
    assert not (tmp_path / "run").exists()


# Full disk


def full_disk(monkeypatch, name):
    """Let every write to files whose name contains ``name`` fail as on a full disk."""
    import mm_adapter.core.files as files

    real = os.fsync

    def fsync(descriptor):
        if name in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", fsync)


@pytest.mark.parametrize("file", ["adapter_model", "adapter_config", "0000000", "config.json", "curve.png"])
def test_full_disk_in_training(command, small, demo_folder, tmp_path, monkeypatch, file):
    """The file is named, no half of it is left."""
    full_disk(monkeypatch, file)
    outcome = command("train", "--data", demo_folder, "--out", tmp_path / "run", *small)
    assert outcome.status == 2
    assert "Traceback" not in outcome.err
    last = outcome.err.splitlines()[-1]
    assert file in last
    assert "No space left on device" in last
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert not any(name.startswith(".") for name in left)


@pytest.mark.parametrize("file", ["predictions.jsonl", "metrics.json"])
def test_full_disk_in_evaluation(refused, text_run, demo_folder, tmp_path, monkeypatch, file):
    """What stood there before stays whole."""
    out = tmp_path / "out"
    out.mkdir()
    (out / file).write_text("before")
    full_disk(monkeypatch, file)
    message = refused("evaluate", "--adapter", text_run, "--data", demo_folder, "--out", out, "--quiet")
    assert file in message
    assert (out / file).read_text() == "before"
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("limit", [700, 2500, 6000])
def test_real_limit_of_the_file_system(tiny_folder, demo_folder, tmp_path, limit):
    """The system itself refuses to let files grow, as a full disk does: safetensors, torch and plain writes alike."""
    code = (
        "import resource, signal, sys; from mm_adapter.cli import main; import matplotlib.figure, numpy, torch._dynamo;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); sys.exit(main(sys.argv[1:]))"
    )
    options = ["--llama", tiny_folder, "--vision", "none", "--layers", "4", "--epochs", "0.2", "--warmup-epochs", "0"]
    arguments = ["train", "--data", demo_folder, "--out", tmp_path / "run", *options, "--quiet"]
    result = subprocess.run(
        [sys.executable, "-B", "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert "cannot be written" in result.stderr.splitlines()[-1]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != limit
    left = [path.name for path in (tmp_path / "run").iterdir()]
    assert not any(name.startswith(".") for name in left), left


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(refused, small, demo_folder, tmp_path):
    """A folder that must not be written to is named."""
    tmp_path.chmod(0o500)
    message = refused("train", "--data", demo_folder, "--out", tmp_path / "run", *small)
    tmp_path.chmod(0o700)
    assert str(tmp_path / "run") in message


def test_out_is_a_file(refused, command, small, text_run, demo_folder, tmp_path):
    """A file in the place of the folder stays what it is."""
    out = tmp_path / "out"
    out.write_text("mine")
    assert str(out) in refused("evaluate", "--adapter", text_run, "--data", demo_folder, "--out", out, "--quiet")
    outcome = command("train", "--data", demo_folder, "--out", out, *small)
    assert outcome.status == 2
    assert str(out) in outcome.err
    assert out.read_text() == "mine"


# Typing


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "did you mean 'train'"),
        (["demodata", "--out", "x"], "did you mean 'demo-data'"),
        ([], "COMMAND"),
        (["train", "--dta", "x", "--out", "y"], "unknown option --dta, did you mean '--data'"),
        (["train", "--data", "x", "--out", "y", "--lyers", "3"], "did you mean '--layers'"),
        (["train", "--data", "x", "--out", "y", "--bas-lr=3"], "did you mean '--base-lr'"),
        (["train", "--data", "x", "--out", "y", "--preset", "smolm2"], "did you mean 'smollm2'"),
        (["train", "--data", "x", "--out", "y", "--layers", "three"], "--layers is 'three'; it must be a whole number"),
        (["train", "--data", "x", "--out", "y", "--epochs", "some"], "--epochs is 'some'; it must be a number"),
        (["train", "--data", "x", "--out", "y", "--cache-states", "maybe"], "must be true or false"),
        (["train", "--data", "x", "--out", "y", "--base-lr", "nan"], "--base-lr is 'nan'; it must be a finite number"),
        (["train", "--data", "x", "--out", "y", "--layers", "0"], "--layers is '0'; it must be at least 1"),
        (["train", "--data", "x"], "--out is required"),
        (["train", "--data"], "--data has no value"),
        (["train", "--dat", "x", "--out", "y"], "did you mean '--data'"),
        (["train", "--data", "x", "--out", "y", "extra"], "unexpected argument 'extra'"),
        (["evaluate", "--adapter", "none", "--data", "x", "--out", "y", "--images", "shufled"], "mean 'shuffled'"),
        (["evaluate", "--adapter", "none", "--data", "x", "--out", "y", "--decoding", "gen"], "'gen' is not known"),
        (["answer", "--adapter", "none", "--qestion", "Why?"], "did you mean '--question'"),
        (["--verbos", "train"], "unknown option --verbos"),
        (["train", "--clip", "1"], "there is no option --clip any more; it is now --max-grad-norm"),
        (["evaluate", "--wording", "alpaca"], "it is now --prompt-template"),
        (["plan", "--ranks", "2.5"], "--ranks is '2.5'; it must be a whole number"),
        (["train", "--layers", "5.0", "--print-config"], "--layers is '5.0'; it must be a whole number"),
        (["train", "--layers", "1_000", "--print-config"], "--layers is '1_000'; it must be a whole number"),
        (["plan", "--ranks", "1_000"], "--ranks is '1_000'; it must be a whole number"),
        (["plan", "--ranks", "0"], "--ranks is 0; it must be at least 1"),
    ],
)
def test_typing_errors(refused, tmp_path, monkeypatch, arguments, said):
    """A typo in a command, an option, a key or a value is answered with the nearest name; nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert said in refused(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_typo_in_a_preset_file(refused, tmp_path):
    """A key of the user's own file."""
    preset = tmp_path / "mine.toml"
    preset.write_text("lyers = 3\n")
    message = refused("train", "--preset", preset, "--data", "x", "--out", tmp_path / "run")
    assert "mine.toml" in message
    assert "did you mean 'layers'" in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--template", "QCMA"], "did you mean 'QCM-A'"),
        (["--answer-format", "txt"], "did you mean 'text'"),
        (["--answer-format", "letter"], "QCM-A or text"),
        (["--explanation", "solutions"], "did you mean 'solution'"),
        (["--ranking", "max"], "--ranking 'max'"),
        (["--attention", "zero"], "--attention 'zero'"),
        (["--layers", "9"], "wants 9 layers, the model has 4"),
        (["--vision", "efficientnet-lite1"], "efficientnet-lite1"),
        (["--vision", "efficientnet-lite0", "--views", "7x7"], "'7x7'"),
        (["--device", "gpu"], "device 'gpu' cannot be used"),
        (["--max-length", "3"], "max_length 3"),
    ],
)
def test_settings_that_do_not_exist(refused, small, demo_folder, tmp_path, options, said):
    """Names and numbers that only the parts themselves can judge."""
    assert said in refused("train", "--data", demo_folder, "--out", tmp_path / "run", *small, *options)
    assert not (tmp_path / "run").exists()


def test_words_that_look_like_options_are_words(command, text_run):
    """A question or a context may begin with dashes."""
    question = ["--question", "-- is it a dash?", "--choices", "a", "b", "--context=--yes"]
    assert command("answer", "--adapter", text_run, *question).status == 0


VERBS = ["demo", "demo-data", "features", "train", "evaluate", "score", "answer", "generate", "chat"]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_command(command, verb):
    """--help works and ends with 0."""
    outcome = command(verb, "--help")
    assert outcome.status == 0
    assert f"usage: mm-adapter {verb}" in outcome.out


def test_the_installed_program(tmp_path):
    """The real executable: status 2 and one line on stderr, nothing else."""
    program = Path(sys.executable).with_name("mm-adapter")
    if not program.is_file():
        pytest.skip("mm-adapter is not installed beside this Python")
    command = [program, "score", "--predictions", tmp_path / "p.json", "--data", tmp_path / "data"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"mm-adapter: {tmp_path / 'data'}: this file or folder does not exist. " + (
        "Check the path; a dataset of the hub is hub:owner/name.\n"
    )
