"""``mm-adapter probe``: complete outputs that agree with evaluate, features kept apart, refusals that lose nothing."""

import csv
import hashlib
import json
from dataclasses import replace

import pytest
import torch

from mm_adapter.data.question import Question
from mm_adapter.data.readers import read_dataset
from mm_adapter.eval.predictions import read_predictions
from mm_adapter.model import MultimodalLlama
from mm_adapter.probing.choice import PROBES, not_applied
from mm_adapter.probing.probes import probe
from mm_adapter.vision.features import FeatureStore

ANSWERING = ["blank", "shuffled", "none", "blur", "downscale", "no-context", "rotations"]


@pytest.fixture(scope="session")
def probed(picture_run, demo_folder, store, tmp_path_factory):
    """All probes of the adapter that sees pictures."""
    out = tmp_path_factory.mktemp("probe") / "out"
    report = probe(
        MultimodalLlama.from_pretrained(adapter=picture_run), str(demo_folder), "test", out, features=store, quiet=True
    )
    return report, out


def test_outputs_are_complete(probed, demo_folder):
    """Every probe that applies has its row in all formats, its predictions, and its pictures."""
    report, out = probed
    assert [result.name for result in report.results] == ANSWERING
    figures = json.loads((out / "probe.json").read_text())
    assert list(figures["probes"]) == ANSWERING
    assert figures["not_applied"].keys() == {"labels"}
    with open(out / "probe.csv", newline="") as file:
        assert [row["probe"] for row in csv.DictReader(file)] == ["unprobed", *ANSWERING]
    text = (out / "probe.md").read_text()
    for title in ("Rotated options", "Nearest training questions", "Gates", "Attention to the prompts"):
        assert f"## {title}" in text
    for picture in ("gates.png", "attention.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
        assert f"({picture})" in text
    questions = read_dataset(str(demo_folder)).split("test")
    for name in ("unprobed", *ANSWERING, "rotated-1"):  # every question has two options
        pids = {prediction.pid for prediction in read_predictions(out / f"predictions-{name}.jsonl")}
        assert pids == {question.pid for question in questions}
    assert len(figures["gates"]["strengths"]) == len(figures["attention"]["ratios"]) == 2
    assert torch.tensor(figures["attention"]["prompt_weights"]).sum(-1).tolist() == pytest.approx([1, 1])
    assert {path.name for path in out.iterdir() if path.name.startswith(".")} == set()


def test_unprobed_and_without_pictures_are_those_of_evaluate(
    probed, command, picture_run, demo_folder, store, tmp_path
):
    """The same answers as evaluate gives, with pictures and without."""
    _, out = probed
    for images, name in (("real", "unprobed"), ("none", "none")):
        arguments = ["--adapter", picture_run, "--data", demo_folder, "--features", store, "--images", images]
        assert command("evaluate", *arguments, "--out", tmp_path / images, "--quiet").status == 0
        ours = {p.pid: p for p in read_predictions(out / f"predictions-{name}.jsonl")}
        for theirs in read_predictions(tmp_path / images / "predictions.jsonl"):
            assert ours[theirs.pid].scores == pytest.approx(theirs.scores, abs=1e-4)


def test_changed_pictures_change_scores_and_stay_apart(probed, picture_run, demo_folder, store):
    """Each change gives other scores; real pictures still have the features that a fresh store gives."""
    _, out = probed
    questions = read_dataset(str(demo_folder)).split("test")
    scores = {
        name: {p.pid: torch.tensor(p.scores) for p in read_predictions(out / f"predictions-{name}.jsonl")}
        for name in ("unprobed", "blank", "shuffled", "none", "blur", "downscale")
    }
    for question in questions:
        rows = [scores[name][question.pid] for name in scores]
        for place, row in enumerate(rows):
            for other in rows[:place]:
                assert torch.equal(row, other) == (question.image is None)
    model = MultimodalLlama.from_pretrained(adapter=picture_run)
    image = next(question.image for question in questions if question.image is not None)
    kept = FeatureStore(store, model.tower).features
    real = kept[hashlib.sha256(image.read_bytes()).hexdigest()]
    torch.testing.assert_close(real, model.image_features(image)[0], rtol=1e-3, atol=1e-4)


def test_a_template_that_lists_no_options_says_so(probed):
    """Rotations are then consistent by construction, and the report says that this proves nothing."""
    report, out = probed
    assert report.rotations.consistency == 100
    assert "their order cannot matter" in (out / "probe.md").read_text()
    assert "Probe labels does not apply" in (out / "probe.md").read_text()


def test_letters_are_renamed_for_a_model_that_answers_by_letter(command, tiny_folder, demo_folder, tmp_path):
    """Two labellings, each with its row; a subset is drawn by the seed and told; probes that do not apply too."""
    arguments = ["--adapter", "none", "--llama", tiny_folder, "--template", "QCM-A", "--answer-format", "letter"]
    asked = ["--data", demo_folder, "--out", tmp_path / "out", "--limit", "6", "--quiet"]
    outcome = command("probe", *arguments, *asked)
    assert outcome.status == 0, outcome.err
    assert outcome.out.splitlines()[0].split()[:3] == ["probe", "accuracy", "IMG"]
    for said in (
        "labels-numbers",
        "labels-letters",
        "drawn from 9 by seed 0",
        "gates does not apply: the model has no",
    ):
        assert said in outcome.out
    unprobed, renamed = (
        {p.pid: p.scores for p in read_predictions(tmp_path / "out" / f"predictions-{name}.jsonl")}
        for name in ("unprobed", "labels-numbers")
    )
    assert len(unprobed) == 6
    assert all(unprobed[pid] != renamed[pid] for pid in unprobed)


def test_one_probe_alone(command, picture_run, demo_folder, store, tmp_path):
    """--probes shuffled: one row, the visual gain in a sentence, nothing else computed."""
    arguments = ["--adapter", picture_run, "--data", demo_folder, "--features", store, "--probes", "shuffled"]
    outcome = command("probe", *arguments, "--out", tmp_path / "out", "--quiet")
    assert outcome.status == 0
    assert "Visual gain" in outcome.out
    assert "does not apply" not in outcome.out
    files = {path.name for path in (tmp_path / "out").iterdir()}
    predictions = {"predictions-unprobed.jsonl", "predictions-shuffled.jsonl"}
    assert files == {"probe.md", "probe.json", "probe.csv", *predictions}


def test_the_same_seed_gives_the_same_files(command, picture_run, demo_folder, store, tmp_path):
    """Byte for byte."""
    arguments = ["--adapter", picture_run, "--data", demo_folder, "--features", store, "--quiet"]
    for name in ("a", "b"):
        asked = ["--probes", "shuffled", "rotations", "--limit", "7", "--seed", "5", "--out", tmp_path / name]
        assert command("probe", *arguments, *asked).status == 0
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_bad_pictures_are_refused_or_left_out(command, refused, picture_run, broken_data, store, tmp_path):
    """By name, and with --skip-bad out of everything."""
    pid = broken_data.pid()
    broken_data.image(pid).write_bytes(b"no picture")
    arguments = ["--adapter", picture_run, "--data", broken_data.folder, "--features", store, "--quiet"]
    asked = ["--probes", "blank", "--out", tmp_path / "out"]
    assert str(broken_data.image(pid)) in refused("probe", *arguments, *asked)
    assert not (tmp_path / "out").exists()
    outcome = command("probe", *arguments, *asked, "--skip-bad")
    assert outcome.status == 0
    assert "1 bad questions were left out" in outcome.out
    assert "A subset" not in outcome.out
    assert pid in json.loads((tmp_path / "out" / "probe.json").read_text())["skipped"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["blanc"], "did you mean 'blank'?"),
        (["blank"], "the model takes no pictures"),
        (["labels"], "the option's own words"),
    ],
)
def test_probes_that_say_nothing_are_refused(refused, text_run, demo_folder, tmp_path, asked, said):
    """Named and of no use here: one message, before anything is computed."""
    arguments = ["--adapter", text_run, "--data", demo_folder, "--out", tmp_path / "out", "--probes", *asked]
    assert said in refused("probe", *arguments)
    assert not (tmp_path / "out").exists()


def test_conversations_are_refused(refused, tiny_folder, demo_folder, tmp_path):
    """They have no options to choose from; neither has a file of them."""
    base = ["--adapter", "none", "--llama", tiny_folder, "--out", tmp_path / "out"]
    assert "conversations" in refused("probe", *base, "--prompt-template", "alpaca", "--data", demo_folder)
    (tmp_path / "talk.json").write_text('[{"instruction": "a", "output": "b"}]')
    assert "no column holds options" in refused("probe", *base, "--data", tmp_path / "talk.json")
    assert not (tmp_path / "out").exists()


def test_reasons_why_a_probe_does_not_apply(picture_run, demo_folder):
    """No pictures in the questions, or one that has no other; no train split; no context."""
    model, dataset = MultimodalLlama.from_pretrained(adapter=picture_run), read_dataset(str(demo_folder))
    pictured = [question for question in dataset.split("test") if question.image is not None]
    plain = [replace(question, image=None, context="") for question in pictured]
    reasons = not_applied(model, replace(dataset, splits={"test": dataset.splits["test"]}), plain)
    assert reasons.keys() == set(PROBES) - {"rotations", "gates", "attention"}
    assert reasons["blank"] == "no question has a picture."
    one: list[Question] = [pictured[0], *plain[1:]]
    assert "only one" in not_applied(model, dataset, one)["shuffled"]
    missing = pictured[0].image.with_name("missing.png")
    same = [replace(pictured[0], pid=str(number)) for number in range(3)]
    assert "the same" in not_applied(model, dataset, same)["shuffled"]
    assert "shuffled" not in not_applied(model, dataset, [*same, *pictured])
    # A picture that is not there is no equal one: it is named when it is wanted.
    assert "shuffled" not in not_applied(model, dataset, [replace(pictured[0], image=missing), *same])
