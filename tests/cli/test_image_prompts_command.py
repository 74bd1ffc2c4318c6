"""Pictures as prompts of their own, from the command line: trained, evaluated, asked, written, probed, planned."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mm_adapter.cli import main
from mm_adapter.data.readers import read_dataset
from mm_adapter.model import MultimodalLlama

OPTIONS = {
    "tiles": ["--image-prompts", "tiles", "--views", "1x1,2x2"],
    "query": ["--image-prompts", "query", "--query-width", "16", "--query-blocks", "1"],
}


@pytest.fixture(scope="module", params=list(OPTIONS))
def trained(request, tiny_folder: Path, demo_folder: Path, store: Path, tmp_path_factory) -> tuple[str, Path]:
    """A run of seconds whose gates are open, as they are after a real one."""
    run = tmp_path_factory.mktemp(request.param) / "run"
    where = ["--llama", tiny_folder, "--data", demo_folder, "--features", store, "--out", run, "--quiet"]
    sizes = ["--layers", "3", "--prompt-length", "4", "--bottleneck", "8", "--epochs", "4", "--warmup-epochs", "0"]
    rates = ["--base-lr", "2", "--gate-lr-scale", "10", "--batch-size", "8", "--max-length", "700"]
    assert main([*map(str, ["train", *where, *sizes, *rates, *OPTIONS[request.param]])]) == 0
    return request.param, run


def test_the_answer_is_that_of_the_evaluation(trained, demo_folder, store, tmp_path, capsys) -> None:
    """Features from the store in a batch, and from the tower for one question: the same scores, within float16."""
    _, run = trained
    out = tmp_path / "out"
    where = ["--data", demo_folder, "--features", store, "--split", "test", "--out", out, "--quiet"]
    assert main([*map(str, ["evaluate", "--adapter", run, *where])]) == 0
    predictions = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    questions = {question.pid: question for question in read_dataset(str(demo_folder)).split("test")}
    model = MultimodalLlama.from_pretrained(adapter=run)
    asked = 0
    for prediction in predictions:
        question = questions[prediction["pid"]]
        if question.image is None:
            continue
        found = model.answer(question.question, question.image, question.options, question.context)
        assert found.choice == prediction["choice"]
        asked += 1
    assert asked > 1
    capsys.readouterr()
    pictured = next(question for question in questions.values() if question.image is not None)
    command = ["answer", "--adapter", run, "--image", pictured.image, "--question", pictured.question]
    assert main([*map(str, command), "--choices", *pictured.options]) == 0
    assert pictured.options[0] in capsys.readouterr().out


def test_pictures_are_seen_and_their_absence_too(trained, demo_folder) -> None:
    """Another picture changes what is said; the picture of a neighbour in the batch does not."""
    _, run = trained
    model = MultimodalLlama.from_pretrained(adapter=run)
    images = [question.image for question in read_dataset(str(demo_folder)).questions if question.image is not None]
    tokens = torch.arange(10, 30)[None]
    with torch.no_grad():
        first, second = (model.image_features(image) for image in images[:2])
        seen, other, blind = model(tokens, first), model(tokens, second), model(tokens)
        both = model(tokens.expand(2, -1), torch.cat((first, second)), torch.tensor([True, False]))
    assert (seen - other).abs().max() > 1e-5
    assert (seen - blind).abs().max() > 1e-5
    assert (both[0] - seen[0]).abs().max() < 1e-5
    assert (both[1] - blind[0]).abs().max() < 1e-5
    written = model.generate(["What is it?"], first, max_new_tokens=4)
    assert model.generate(["What is it?", "And?"], first, torch.tensor([True]), max_new_tokens=4)[0] == written[0]


def test_probes_know_the_pieces(trained, demo_folder, store, tmp_path) -> None:
    """Gates of both kinds, and the share of every prompt and piece: each sums to one."""
    kind, run = trained
    where = ["--data", demo_folder, "--features", store, "--split", "test", "--out", tmp_path / "out", "--quiet"]
    assert main([*map(str, ["probe", "--adapter", run, "--probes", "gates", "attention", *where])]) == 0
    sections = json.loads((tmp_path / "out" / "probe.json").read_text())
    heads = load_file(run / "adapter_model.safetensors")["gates"].shape[1]
    assert len(sections["gates"]["strengths"][0]) == heads * (2 if kind == "tiles" else 1)
    attention = sections["attention"]
    shares = [attention["prompt_weights"], *([attention["piece_weights"]] if kind == "tiles" else [])]
    for rows in shares:
        assert torch.tensor(rows).sum(dim=1) == pytest.approx(1.0, abs=1e-4)
    if kind == "tiles":
        assert len(attention["piece_weights"][0]) == 25  # five depths of five tiles


def test_the_adapter_is_planned_to_the_number(trained, tiny_folder, capsys) -> None:
    """The plan counts what the file holds."""
    kind, run = trained
    sizes = ["--layers", "3", "--prompt-length", "4", "--bottleneck", "8", "--batch-size", "8"]
    capsys.readouterr()
    command = ["plan", "--llama", tiny_folder, *sizes, *OPTIONS[kind], "--question-tokens", "60", "--json"]
    assert main([*map(str, command)]) == 0
    planned = json.loads(capsys.readouterr().out)["trained_parameters"]
    assert planned == sum(tensor.numel() for tensor in load_file(run / "adapter_model.safetensors").values())
    assert main(["inspect", str(run)]) == 0
    assert kind in capsys.readouterr().out
