"""``mm-adapter evaluate``: complete outputs, the same in any batch, and the controls without the right picture."""

import csv
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mm_adapter.inference.answer_sets as module
from mm_adapter.data.question import Question
from mm_adapter.data.readers import read_dataset
from mm_adapter.distributed import SINGLE_PROCESS
from mm_adapter.model import MultimodalLlama
from mm_adapter.scoring.encoded_sets import score_questions
from mm_adapter.training.evaluation import evaluate, shuffle_images


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_outputs_are_complete(command, text_run, demo_folder, tmp_path):
    """Every question once, with every option's score, in all formats; the table is on the terminal too."""
    out = tmp_path / "test"
    outcome = command("evaluate", "--adapter", text_run, "--data", demo_folder, "--split", "test", "--out", out)
    assert outcome.status == 0
    assert outcome.out.splitlines()[0].split() == ["NAT", "SOC", "LAN", "TXT", "IMG", "NO", "G1-6", "G7-12", "Avg"]
    assert "9 questions." in outcome.out
    questions = read_dataset(str(demo_folder)).split("test")
    predictions = lines(out / "predictions.jsonl")
    assert [p["pid"] for p in predictions] == [q.pid for q in questions]
    for prediction, question in zip(predictions, questions, strict=True):
        assert len(prediction["scores"]) == len(prediction["probabilities"]) == len(question.options)
        assert sum(prediction["probabilities"]) == pytest.approx(1)
        assert prediction["scores"][prediction["choice"]] == max(prediction["scores"])
        assert prediction["raw_text"] == question.options[prediction["choice"]]
    official = json.loads((out / "official.json").read_text())
    assert official["results"] == {p["pid"]: p["choice"] for p in predictions}
    metrics = json.loads((out / "metrics.json").read_text())
    assert {"acc_natural", "acc_average", "acc_has_image"} <= metrics["official"].keys()
    with open(out / "metrics.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert ["official", "acc_average", "9", f"{metrics['official']['acc_average']:.2f}"] in rows
    assert (out / "report.md").read_text().startswith("# run\n")


@pytest.mark.parametrize("file", ["predictions.jsonl", "official.json"])
def test_score_gives_the_same_figures(command, text_run, demo_folder, tmp_path, file):
    """What evaluate says of its answers, score says of its files."""
    out = tmp_path / "test"
    assert command("evaluate", "--adapter", text_run, "--data", demo_folder, "--out", out, "--quiet").status == 0
    scored = command("score", "--predictions", out / file, "--data", demo_folder, "--json", tmp_path / "scored.json")
    assert scored.status == 0
    found, written = (json.loads(path.read_text()) for path in (tmp_path / "scored.json", out / "metrics.json"))
    assert {key: found[key] for key in written} == written


def test_order_and_scores_do_not_depend_on_the_batch(picture_run, demo_folder, store, tmp_path, monkeypatch):
    """Alone or with all others, with pictures and without in one batch: the same order, scores within 1e-4."""
    found = []
    for budget in (1, 100_000):
        monkeypatch.setattr(
            module,
            "score_questions",
            lambda m, e, budget=budget, distributed=SINGLE_PROCESS: score_questions(m, e, budget, distributed),
        )
        out = tmp_path / str(budget)
        evaluate(
            MultimodalLlama.from_pretrained(adapter=picture_run),
            str(demo_folder),
            "test",
            out,
            features=store,
            quiet=True,
        )
        found.append(lines(out / "predictions.jsonl"))
    for alone, together in zip(*found, strict=True):
        assert alone["pid"] == together["pid"]
        assert alone["scores"] == pytest.approx(together["scores"], abs=1e-4)


def test_pictures_matter_where_they_are_shown(command, picture_run, demo_folder, store, tmp_path):
    """Without and with wrong pictures the scores of picture questions change; those of the others do not."""
    questions = {question.pid: question for question in read_dataset(str(demo_folder)).split("test")}
    scores = {}
    for images in ("real", "none", "shuffled"):
        arguments = ["--adapter", picture_run, "--data", demo_folder, "--features", store, "--images", images]
        assert command("evaluate", *arguments, "--out", tmp_path / images, "--quiet").status == 0
        scores[images] = {line["pid"]: line["scores"] for line in lines(tmp_path / images / "predictions.jsonl")}
        # The classes are those of the questions, whatever was shown.
        metrics = json.loads((tmp_path / images / "metrics.json").read_text())
        assert metrics["counts"]["acc_has_image"] == 5
    for pid, question in questions.items():
        for images in ("none", "shuffled"):
            difference = torch.tensor(scores["real"][pid]) - torch.tensor(scores[images][pid])
            assert (float(difference.abs().max()) > 1e-5) == (question.image is not None), (pid, images)


@given(st.lists(st.booleans(), min_size=2, max_size=30), st.integers(0, 99))
def test_shuffled_pictures_are_all_another_questions(holds, seed):
    """A derangement: each picture once, none at its own question, none at a question that had none."""
    questions = [
        Question(str(index), "?", ("a", "b"), 0, image=Path(f"{index}.png") if held else None)
        for index, held in enumerate(holds)
    ]
    shuffled = shuffle_images(questions, seed)
    assert [question.pid for question in shuffled] == [question.pid for question in questions]
    assert sorted(str(q.image) for q in shuffled) == sorted(str(q.image) for q in questions)
    for before, after in zip(questions, shuffled, strict=True):
        assert (before.image is None) == (after.image is None)
        if before.image is not None and sum(holds) > 1:
            assert before.image != after.image
    assert shuffled == shuffle_images(questions, seed)


def test_written_answers_that_cannot_be_read_are_counted(command, tiny_folder, demo_folder, tmp_path, monkeypatch):
    """A random model writes nonsense: -1, counted, wrong; the text is kept. A readable answer is taken."""
    arguments = ["evaluate", "--adapter", "none", "--llama", tiny_folder, "--data", demo_folder, "--quiet"]
    outcome = command(*arguments, "--out", tmp_path / "a", "--decoding", "generate")
    assert outcome.status == 0
    predictions = lines(tmp_path / "a" / "predictions.jsonl")
    unread = sum(prediction["choice"] == -1 for prediction in predictions)
    assert unread > 0
    assert f"{unread} answers could not be read" in outcome.out
    assert json.loads((tmp_path / "a" / "metrics.json").read_text())["unparseable"] == unread
    monkeypatch.setattr(MultimodalLlama, "generate", lambda self, prompts, *_, **__: ["(A)"] * len(prompts))
    assert command(*arguments, "--out", tmp_path / "b", "--decoding", "generate").status == 0
    assert {prediction["choice"] for prediction in lines(tmp_path / "b" / "predictions.jsonl")} == {0}


def test_base_model_is_asked_as_told(command, refused, tiny_folder, text_run, demo_folder, tmp_path):
    """--adapter none takes a template; an adapter knows its own."""
    arguments = ["--llama", tiny_folder, "--data", demo_folder, "--out", tmp_path / "test", "--quiet"]
    asked = ["--template", "QCM-A", "--answer-format", "letter"]
    assert command("evaluate", "--adapter", "none", *arguments, *asked).status == 0
    assert "taught" in refused("evaluate", "--adapter", text_run, *arguments, *asked)


def test_shortened_contexts_are_reported(command, small, broken_data, tmp_path):
    """A context that was cut is counted, in training and in evaluation."""
    pid = broken_data.pid(picture=False)
    broken_data.change("problems.json", lambda problems: problems[pid].update(hint="long " * 400))
    run = tmp_path / "run"
    assert command("train", "--data", broken_data.folder, "--out", run, *small, "--epochs", "0.1").status == 0
    arguments = ["--adapter", run, "--data", broken_data.folder, "--out", tmp_path / "test", "--quiet"]
    outcome = command("evaluate", *arguments)
    assert "1 questions have a shortened context" in outcome.err


def test_unknown_ways_are_refused_in_python_too(tiny_folder, demo_folder, tmp_path):
    """A library caller's typo is named before anything is computed."""
    from mm_adapter.core.errors import UserError

    model = MultimodalLlama.from_pretrained(str(tiny_folder))
    with pytest.raises(UserError, match="did you mean 'shuffled'"):
        evaluate(model, str(demo_folder), "test", tmp_path / "out", images="shufled")
    with pytest.raises(UserError, match="did you mean 'generate'"):
        evaluate(model, str(demo_folder), "test", tmp_path / "out", decoding="generat")
    assert not (tmp_path / "out").exists()
