"""Runs of a grid share what they can and are still the runs that ``train`` makes; what is done is not done again."""

import json

import pytest
import torch

import mm_adapter.ablation.shared_parts as shared
import mm_adapter.training.prepare as preparing
from mm_adapter.ablation.grid import read_grid
from mm_adapter.ablation.run_grid import ablate, run_folder
from mm_adapter.ablation.shared_parts import choose
from mm_adapter.core.errors import UserError
from mm_adapter.data.readers import read_dataset
from mm_adapter.model import MultimodalLlama
from mm_adapter.training.evaluation import evaluate
from mm_adapter.training.run import train
from mm_adapter.training.trainer import Trainer


def quiet(line):
    """Say nothing."""


def run(path, data, out, **options):
    return ablate(read_grid(path), str(data), out, quiet=True, log=quiet, **options)


def adapter_bytes(folder):
    return (folder / "adapter_model.safetensors").read_bytes()


def test_a_point_is_the_run_that_train_makes(tmp_path, tiny_folder, demo_folder):
    """Sharing changes nothing: with and without pictures, adapter and predictions are those of the plain commands."""
    path = tmp_path / "pictures.toml"
    base = f'[base]\nllama = "{tiny_folder}"\nlayers = 2\nprompt_length = 3\nepochs = 1\nwarmup_epochs = 0\n'
    path.write_text(base + "max_length = 700\nbase_lr = 0.5\n[grid]\nimages = [true, false]\nseed = [3]\n")
    grid, store = read_grid(str(path)), tmp_path / "features"
    ablate(grid, str(demo_folder), tmp_path / "out", store, quiet=True, log=quiet)
    for point in grid.points:
        plain, shared_run = tmp_path / point.name, run_folder(tmp_path / "out", point)
        train(point.config, str(demo_folder), plain, features=store, quiet=True, log=quiet)
        assert adapter_bytes(plain) == adapter_bytes(shared_run)
        model = MultimodalLlama.from_pretrained(adapter=plain)
        evaluate(model, str(demo_folder), "test", plain / "test", features=store, quiet=True, log=quiet)
        own = (shared_run / "test" / "predictions.jsonl").read_bytes()
        assert own == (plain / "test" / "predictions.jsonl").read_bytes()


def test_base_and_questions_are_made_once(write_grid, demo_folder, tmp_path, monkeypatch):
    """Four runs: the base model is loaded once, the questions encoded once for each answer format."""
    loads, encodings = [], []
    load, encode = shared.load_llama, preparing.encode_questions
    monkeypatch.setattr(shared, "load_llama", lambda *a, **k: loads.append(a) or load(*a, **k))
    monkeypatch.setattr(preparing, "encode_questions", lambda *a, **k: encodings.append(a) or encode(*a, **k))
    path = write_grid('answer_format = ["text", "letter"]\nlayers = [1, 2]', 'template = "QCM-A"')
    report = run(path, demo_folder, tmp_path / "out")
    assert len(report.results) == 4
    assert (len(loads), len(encodings)) == (1, 2 * 3)


def test_runs_on_one_base_follow_one_another(write_grid, demo_folder, tmp_path, monkeypatch):
    """Two base models, whatever the order of the grid: each is loaded once, and one is held at a time."""
    held, load = [], shared.load_llama
    monkeypatch.setattr(shared, "load_llama", lambda name, dtype, *rest: held.append(dtype) or load(name, dtype, *rest))
    report = run(write_grid('layers = [1, 2]\ndtype = ["float32", "bfloat16"]'), demo_folder, tmp_path / "out")
    assert held == [torch.float32, torch.bfloat16]
    assert [result.config["dtype"] for result in report.results] == ["float32", "bfloat16"] * 2


def test_interrupted_grid_goes_on(write_grid, demo_folder, tmp_path, monkeypatch):
    """Ctrl-C in the second run: the first is not run again, the second goes on from its state to the same bytes."""
    path = write_grid("layers = [1, 2]")
    whole = run(path, demo_folder, tmp_path / "whole")
    step, interrupted, stepped = Trainer._step, tmp_path / "interrupted", []

    def breaking(trainer, *rest):
        if trainer.folder.name == "layers=2" and trainer.progress.step == 4:
            raise KeyboardInterrupt
        return step(trainer, *rest)

    def counting(trainer, *rest):
        stepped.append((trainer.folder.name, trainer.progress.step))
        return step(trainer, *rest)

    monkeypatch.setattr(Trainer, "_step", breaking)
    with pytest.raises(KeyboardInterrupt):
        run(path, demo_folder, interrupted)
    assert "1 of 2 runs" in (interrupted / "ablation.md").read_text()
    monkeypatch.setattr(Trainer, "_step", counting)
    again = run(path, demo_folder, interrupted)
    assert {name for name, _ in stepped} == {"layers=2"}
    assert stepped[0][1] >= 3
    for first, second in zip(whole.results, again.results, strict=True):
        assert (first.name, first.accuracy, first.train_loss) == (second.name, second.accuracy, second.train_loss)
        folders = [tmp_path / kind / "runs" / first.name for kind in ("whole", "interrupted")]
        assert adapter_bytes(folders[0]) == adapter_bytes(folders[1])
    stepped.clear()
    assert run(path, demo_folder, interrupted, split="val").results[0].split == "val"
    assert stepped == [], "another split takes answers, no training"


def test_a_point_that_fails_is_named_and_the_others_run(write_grid, demo_folder, tmp_path):
    """More layers than the model has: the table has the other run, and says why this one is not there."""
    report = run(write_grid("layers = [9, 1]"), demo_folder, tmp_path / "out")
    assert [result.name for result in report.results] == ["layers=1"]
    assert "the adapter wants 9 layers" in report.failed["layers=9"]
    assert "layers=9" in (tmp_path / "out" / "ablation.md").read_text()


def test_a_run_that_leaves_the_finite_is_a_failure(write_grid, demo_folder, tmp_path):
    """A rate beyond all numbers: no figure of it enters a table."""
    report = run(
        write_grid("base_lr = [1e38]", "max_grad_norm = 0.0\nmax_skipped_steps = 0"), demo_folder, tmp_path / "out"
    )
    assert report.results == ()
    assert "finite" in report.failed["base_lr=1e+38"]


def test_other_questions_or_settings_are_refused(write_grid, demo_folder, tmp_path):
    """A folder's runs stay of one kind: nothing is run, nothing mixed."""
    out = tmp_path / "out"
    run(write_grid("layers = [1]"), demo_folder, out)
    before, text = (out / "ablation.json").read_bytes(), (tmp_path / "tiny.toml").read_text()
    other = tmp_path / "other.toml"
    other.write_text(text.replace("prompt_length = 3", "prompt_length = 4"))
    with pytest.raises(UserError, match="prompt_length: 3, now 4"):
        run(str(other), demo_folder, out)
    other.write_text(text.replace("train_questions = 12", "train_questions = 11"))
    with pytest.raises(UserError, match="ablation of other train questions"):
        run(str(other), demo_folder, out)
    assert (out / "ablation.json").read_bytes() == before


def test_a_broken_result_is_made_again(write_grid, demo_folder, tmp_path):
    """Half a result.json is none: the trained run is answered once more."""
    path, out = write_grid("layers = [1]"), tmp_path / "out"
    first = run(path, demo_folder, out)
    result = out / "runs" / "layers=1" / "test" / "result.json"
    assert json.loads(result.read_text())["accuracy"] == first.results[0].accuracy
    result.write_text(result.read_text()[:40])
    assert run(path, demo_folder, out).results[0].accuracy == first.results[0].accuracy


def test_the_choice_of_questions_is_seeded_and_in_order(demo_folder):
    """The same questions each time, each once, in the split's order; no limit, all of them."""
    questions = read_dataset(str(demo_folder)).split("train")
    chosen = choose(questions, 7)
    assert chosen == choose(questions, 7) == [question for question in questions if question in chosen]
    assert len(chosen) == 7
    assert choose(questions, None) == choose(questions, 10**6) == questions


def test_runs_of_version_0_1_are_found(write_grid, demo_folder, tmp_path, monkeypatch):
    """A finished run in a folder with the old name of a setting is not trained again, and stands in the tables."""
    grid, out = write_grid("warmup_epochs = [0.0]\neval_every = [0.5]\nema_decay = [0.5]"), tmp_path / "out"
    whole = run(grid, demo_folder, out)
    folder = next((out / "runs").iterdir())
    assert folder.name == "warmup_epochs=0,eval_every=0.5,ema_decay=0.5"
    folder.rename(folder.with_name("warmup_epochs=0,evaluations=2,average_decay=0.5"))
    monkeypatch.setattr(Trainer, "run", lambda self: pytest.fail("a finished run is made again"))
    assert run(grid, demo_folder, out).results == whole.results
