"""Adapters for others: a card with every figure, an upload, and the same answers from what was fetched again."""

import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard, constants
from stand_in_hub import Hub, stand_in_hub

from mm_adapter import MultimodalLlama
from mm_adapter.core.errors import UserError
from mm_adapter.eval.metrics import COLUMNS
from mm_adapter.publishing import prepare, push_to_hub

SAVED = Path(__file__).resolve().parent.parent / "saved"
REPO = "user/first"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """An empty hub in place of the real one, and somebody who is logged in there."""
    with stand_in_hub() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", found.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", found.token)
        yield found


@pytest.fixture
def unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is sent anywhere fails the test."""
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: pytest.fail("sent to the hub"))
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda *_, **__: pytest.fail("sent to the hub"))


@pytest.fixture(scope="module")
def evaluated(
    tmp_path_factory: pytest.TempPathFactory, picture_run: Path, tiny_folder: Path, demo_folder: Path, store: Path
) -> Path:
    """A run with two evaluations: as it is, and without pictures."""
    from mm_adapter.cli import main

    run = Path(shutil.copytree(picture_run, tmp_path_factory.mktemp("evaluated") / "run"))
    asked = ["evaluate", "--adapter", str(run), "--data", str(demo_folder), "--features", str(store), "--quiet"]
    assert main([*asked, "--out", str(run / "test")]) == 0
    assert main([*asked, "--out", str(run / "unseen"), "--images", "none"]) == 0
    # Of the base model: its figures are not the adapter's.
    base = ["evaluate", "--adapter", "none", "--llama", str(tiny_folder), "--data", str(demo_folder), "--quiet"]
    assert main([*base, "--out", str(run / "base")]) == 0
    return run


def numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number in a JSON value with the key that it stands under."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from numbers(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from numbers(part, key)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, value


def logits(llama: Path, adapter: str | Path) -> torch.Tensor:
    """Return what a model says to a few tokens and a picture's features."""
    model = MultimodalLlama.from_pretrained(str(llama), adapter=adapter)
    assert model.adapter is not None
    features = torch.linspace(-1, 1, model.adapter.config.image_size)[None]
    with torch.no_grad():
        return model(torch.arange(3, 12)[None], features)


def test_published_and_fetched_again(hub: Hub, command: Callable[..., Any], evaluated: Path, tiny_folder: Path) -> None:
    """What comes back from the hub computes the same, bit for bit; only the known files were asked for."""
    done = command("publish", evaluated, "--repo", REPO)
    assert done.status == 0, done.err
    assert f"published {hub.url}/{REPO}/commit/{hub.repositories[REPO].head}" in done.out
    files = {"README.md", "adapter_config.json", "adapter_model.safetensors", "config.json", "run.json"}
    assert hub.repositories[REPO].files.keys() == files
    assert not hub.repositories[REPO].private
    hub.repositories[REPO].commit({"evil.bin": b"x", "pytorch_model.bin": b"x"})
    hub.requests.clear()
    assert torch.equal(logits(tiny_folder, f"hub:{REPO}"), logits(tiny_folder, evaluated))
    asked = {path.rpartition("/")[2] for _, path in hub.requests}
    assert asked == {"adapter_config.json", "adapter_model.safetensors", "run.json"}
    # All of one commit, whatever is published meanwhile.
    weights = {path for _, path in hub.requests if path.endswith(".safetensors")}
    assert weights == {f"/{REPO}/resolve/{hub.repositories[REPO].head}/adapter_model.safetensors"}


def test_every_command_takes_a_hub_id(
    hub: Hub, command: Callable[..., Any], evaluated: Path, tiny_folder: Path, demo_folder: Path, tmp_path: Path,
    store: Path,
) -> None:  # fmt: skip
    """An adapter of the hub is evaluated, inspected, converted and trained on as one in a folder."""
    push_to_hub(evaluated, REPO)
    name, llama = f"hub:{REPO}", ["--llama", tiny_folder]
    where = ["--data", demo_folder, "--features", store, "--quiet"]
    assert command("evaluate", "--adapter", name, *llama, *where, "--out", tmp_path / "test").status == 0
    predictions = (tmp_path / "test" / "predictions.jsonl").read_bytes()
    assert predictions == (evaluated / "test" / "predictions.jsonl").read_bytes()
    asked = ["--question", "Which?", "--choices", "red", "blue"]
    assert command("answer", "--adapter", name, *llama, *asked).status == 0
    assert json.loads(command("inspect", name, "--json").out)["kind"] == "adapter"
    converted = command("convert", "--to", "official", "--adapter", name, *llama, "--out", tmp_path / "official")
    assert "cannot hold" in converted.err  # the original V1 layout has no projection: it was opened and understood
    settings = ["--config", evaluated / "config.json", *llama, "--start-from", name]
    done = command("train", *settings, *where, "--epochs", "0.1", "--out", tmp_path / "more")
    assert done.status == 0, done.err


def test_the_card_has_every_figure(evaluated: Path) -> None:
    """Each number of metrics.json stands in the text, and each measured one in the metadata with its interval."""
    publication = prepare(evaluated, REPO)
    text = publication.texts["README.md"]
    for folder in ("test", "unseen"):
        metrics = json.loads((evaluated / folder / "metrics.json").read_text())
        part = text.split(f"### {folder}: ")[1].split("\n### ")[0]
        for key, value in numbers(metrics):
            shown = f"{value:.2f}" if isinstance(value, float) else f"{value:,}"
            assert f" {shown} " in part, (key, value)
    card = ModelCard(text)
    results = card.data.eval_results
    assert results is not None
    metrics = json.loads((evaluated / "test" / "metrics.json").read_text())
    classes = {key: value for key, value in metrics["official"].items() if key in COLUMNS.values()}
    measured = [value for value in classes.values() if value is not None]
    measured += [row["accuracy"] for key in ("by_topic", "by_category", "by_skill") for row in metrics[key]]
    own = [result for result in results if result.dataset_config is None]
    assert [result.metric_value for result in own] == measured
    # The official evaluator's figures by topic are rows of that table.
    by_name = {result.metric_name: result.metric_value for result in own}
    for key, value in metrics["official"].items():
        if key not in classes and value is not None:
            assert by_name[f"topic: {key.removeprefix('acc_').replace('_', '-')}"] == value
    assert {result.dataset_config for result in results} == {None, "pictures none"}
    average = next(result for result in own if result.metric_name == "Avg, all questions")
    low, high = average.metric_args["interval_95"]  # type: ignore[index]
    assert low < average.metric_value < high
    # Wilson's interval by its formula.
    total, z = metrics["counts"]["acc_average"], 1.959964
    share = metrics["official"]["acc_average"] / 100
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    assert (low, high) == pytest.approx((100 * (middle - half), 100 * (middle + half)), abs=0.02)


def test_the_card_is_valid(hub: Hub, evaluated: Path, tmp_path: Path) -> None:
    """huggingface_hub reads the card as it was meant, and its own check accepts it."""
    publication = prepare(evaluated, REPO, base="hub:owner/tiny", data="hub:owner/questions", licence="mit")
    publication.write(tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    card.validate()
    assert ("POST", "/api/validate-yaml") in hub.requests
    found = card.data.to_dict()
    assert (found["base_model"], found["base_model_relation"]) == ("owner/tiny", "adapter")
    assert (found["license"], found["datasets"]) == ("mit", ["owner/questions"])
    assert (found["pipeline_tag"], found["library_name"]) == ("visual-question-answering", "mm-adapter")
    assert card.data.model_name == "first"
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["llama"]["name"] == "hub:owner/tiny"
    described = json.loads((evaluated / "adapter_config.json").read_text())
    assert described["llama"]["fingerprint"] in card.text
    assert described["vision"]["fingerprint"] in card.text


def test_nothing_of_the_machine_is_published(evaluated: Path, tiny_folder: Path, demo_folder: Path) -> None:
    """Folders of this machine stand in the run, and in no file for others."""
    publication = prepare(evaluated, REPO)
    assert str(tiny_folder) in (evaluated / "adapter_config.json").read_text()
    assert str(demo_folder) in (evaluated / "run.json").read_text()
    for name, text in publication.texts.items():
        assert str(demo_folder.parent) not in text, name
        assert str(tiny_folder.parent) not in text, name
        assert str(evaluated.parent) not in text, name
    assert json.loads(publication.texts["adapter_config.json"])["llama"]["name"] == tiny_folder.name
    assert 'llama="PATH"' in publication.texts["README.md"]


def test_the_command_on_the_card_is_that_of_the_run(command: Callable[..., Any], evaluated: Path) -> None:
    """The card's training command has the settings of the run, and the evaluations their options."""
    block = prepare(evaluated, REPO).texts["README.md"].split("## Reproduce")[1].split("```sh\n")[1].split("```")[0]
    train, *others = block.strip().splitlines()
    assert [("--images none" in line, f"--adapter hub:{REPO}" in line) for line in others] == [
        (False, True),
        (True, True),
    ]
    told = command(*shlex.split(train)[1:], "--print-config").out
    found = {line.split(" = ")[0].strip(): line.split(" = ")[1].split("  #")[0].strip() for line in told.splitlines()}
    settings = json.loads((evaluated / "config.json").read_text())
    for key in ("layers", "prompt_length", "epochs", "warmup_epochs", "batch_size", "max_length", "base_lr", "seed"):
        assert float(found[key]) == settings[key], key
    assert found["vision"] == '"efficientnet-lite0"'


def test_a_look_first_sends_nothing(
    unplugged: None, command: Callable[..., Any], evaluated: Path, tmp_path: Path
) -> None:
    """--dry-run prints the card and writes nothing; --out writes the files."""
    before = sorted(path.name for path in evaluated.iterdir())
    shown = command("publish", evaluated, "--repo", REPO, "--dry-run")
    assert shown.status == 0, shown.err
    assert "model-index:" in shown.out
    assert "nothing was sent or written" in shown.out
    assert sorted(path.name for path in evaluated.iterdir()) == before
    written = command("publish", evaluated, "--repo", REPO, "--out", tmp_path / "out")
    assert "nothing was sent" in written.out
    files = {"README.md", "adapter_config.json", "adapter_model.safetensors", "config.json", "run.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    weights = "adapter_model.safetensors"
    assert (tmp_path / "out" / weights).read_bytes() == (evaluated / weights).read_bytes()


def test_conversations_and_runs_of_before(command: Callable[..., Any]) -> None:
    """A run of version 0.1 on conversations has a card too: settings under today's names, no figures, as it says."""
    shown = command("publish", SAVED / "conversations", "--repo", REPO, "--dry-run")
    assert shown.status == 0, shown.err
    assert "pipeline_tag: text-generation" in shown.out
    assert "published without an evaluation" in shown.out
    assert "--base-lr" in shown.out
    assert "--base-rate" not in shown.out
    assert "no figures" in shown.out


def test_figures_of_responses(command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and perplexity have intervals that a bootstrap over the responses gives."""
    shutil.copytree(SAVED / "conversations", tmp_path / "run")
    shutil.copytree(SAVED / "llama", tmp_path / "saved" / "llama")
    monkeypatch.chdir(tmp_path)
    where = ["--data", "run/instructions.json", "--split", "all", "--decoding", "generate", "--max-new-tokens", "4"]
    done = command("evaluate", "--adapter", "run", *where, "--out", "run/all", "--quiet")
    assert done.status == 0, done.err
    # Of the base model: its figures are not the adapter's.
    base = [
        "--adapter",
        "none",
        "--llama",
        "saved/llama",
        "--prompt-template",
        "alpaca",
        "--out",
        "run/base",
        "--quiet",
    ]
    done = command("evaluate", *base, "--data", "run/instructions.json", "--split", "all", "--decoding", "likelihood")
    assert done.status == 0, done.err
    metrics = json.loads((tmp_path / "run" / "all" / "metrics.json").read_text())
    (evaluation,) = prepare("run", REPO).evaluations
    figures = {figure.name: figure for figure in evaluation.figures}
    loss, perplexity = figures["loss per token"], figures["perplexity"]
    assert loss.value == metrics["loss_per_token"]
    assert loss.interval is not None
    assert perplexity.interval is not None
    assert loss.interval.low < loss.value < loss.interval.high
    assert math.log(perplexity.interval.high) == pytest.approx(loss.interval.high)
    shown = {figure.value for figure in evaluation.figures}
    assert {value for key, value in numbers(metrics) if key != "skipped"} <= shown
    assert evaluation.data == "run/instructions.json"
    text = prepare("run", REPO).texts["README.md"]
    assert "Evaluated on instructions.json" in text
    assert "--data instructions.json --out OUT --llama PATH --split all" in text


def test_private_stays_private(hub: Hub, evaluated: Path, refused: Callable[..., str]) -> None:
    """What is to be private is never put where everybody reads it."""
    push_to_hub(evaluated, "user/secret", private=True)
    assert hub.repositories["user/secret"].private
    push_to_hub(evaluated, REPO)
    before = hub.repositories[REPO].head
    assert "for everybody to read" in refused("publish", evaluated, "--repo", REPO, "--private")
    assert hub.repositories[REPO].head == before


def test_hub_that_refuses(hub: Hub, evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a login, and with metadata that the hub does not know, there is one line and no repository."""
    publication = prepare(evaluated, REPO, licence="mit")
    publication.texts["README.md"] = publication.texts["README.md"].replace("license: mit", "license: [1]")
    with pytest.raises(UserError, match="license must be a string"):
        publication.upload()
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UserError, match="hf auth login"):
        push_to_hub(evaluated, REPO)
    assert hub.repositories == {}


@pytest.mark.parametrize("name", ["runs/frist", "user/first", "./user/first"])
def test_a_mistyped_folder_is_sent_nowhere(unplugged: None, refused: Callable[..., str], name: str) -> None:
    """Only hub: asks the hub."""
    assert "does not exist" in refused("answer", "--adapter", name, "--question", "x", "--choices", "a", "b")
    assert "does not exist" in refused("publish", name, "--repo", REPO)


def test_untrusted_files(hub: Hub, evaluated: Path, tiny_folder: Path) -> None:
    """A file that claims to be larger than any adapter's is not fetched, one that is missing or damaged is named."""
    push_to_hub(evaluated, REPO)
    name = f"hub:{REPO}"
    hub.sizes["adapter_model.safetensors"] = 2**40
    with pytest.raises(UserError, match=r"has 1,099,511,627,776 bytes.*It was not fetched"):
        MultimodalLlama.from_pretrained(str(tiny_folder), adapter=name)
    assert not [path for method, path in hub.requests if method == "GET" and path.endswith(".safetensors")]
    hub.sizes.clear()
    hub.repositories[REPO].commit({"adapter_model.safetensors": b"\x80\x04pickle"})
    with pytest.raises(UserError, match="not a readable safetensors file"):
        MultimodalLlama.from_pretrained(str(tiny_folder), adapter=name)
    hub.repositories[REPO].commit({"adapter_config.json": b"[" * 100_000})
    with pytest.raises(UserError, match="is not JSON"):
        MultimodalLlama.from_pretrained(str(tiny_folder), adapter=name)
    del hub.repositories[REPO].files["adapter_model.safetensors"]
    with pytest.raises(UserError, match=r"has no adapter_model\.safetensors"):
        MultimodalLlama.from_pretrained(str(tiny_folder), adapter=name)
    with pytest.raises(UserError, match="hub:user/other: cannot be fetched"):
        MultimodalLlama.from_pretrained(str(tiny_folder), adapter="hub:user/other")
    with pytest.raises(UserError, match="hub:owner/name"):
        MultimodalLlama.from_pretrained(str(tiny_folder), adapter="hub:../../etc")


def test_without_a_network_what_was_fetched_is_used(hub: Hub, evaluated: Path, tiny_folder: Path) -> None:
    """The second load needs no hub; a first one says that it cannot be reached."""
    push_to_hub(evaluated, REPO)
    expected = logits(tiny_folder, f"hub:{REPO}")
    constants_before = constants.HF_HUB_OFFLINE
    try:
        constants.HF_HUB_OFFLINE = True
        assert torch.equal(logits(tiny_folder, f"hub:{REPO}"), expected)
        with pytest.raises(UserError, match="the hub cannot be reached"):
            logits(tiny_folder, "hub:user/other")
    finally:
        constants.HF_HUB_OFFLINE = constants_before


def test_towers_that_nobody_else_has(evaluated: Path, tmp_path: Path) -> None:
    """A copy of named weights is left out of the name; a file without one cannot be published."""
    run = Path(shutil.copytree(evaluated, tmp_path / "run"))
    described = json.loads((run / "adapter_config.json").read_text())
    for tower, public in {"ViT-B-32/openai@/home/me/x.pt": "ViT-B-32/openai", "hf-hub:a/b": "hf-hub:a/b"}.items():
        described["vision"]["tower"] = tower
        (run / "adapter_config.json").write_text(json.dumps(described))
        assert json.loads(prepare(run, REPO).texts["adapter_config.json"])["vision"]["tower"] == public
    for tower in ("local-dir:/home/me/tower", "ViT-B-32/weights/mine.pt", "timm:resnet18/mine.pth"):
        described["vision"]["tower"] = tower
        (run / "adapter_config.json").write_text(json.dumps(described))
        with pytest.raises(UserError, match="nobody else has"):
            prepare(run, REPO)


def test_evaluations_of_another_model_are_refused(evaluated: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    """The base model's figures are on no adapter's card, and damaged ones are named."""
    assert [one.folder.name for one in prepare(evaluated, REPO).evaluations] == ["test", "unseen"]
    assert "of another model" not in prepare(evaluated, REPO, results=[evaluated / "test"]).texts["README.md"]
    message = refused("publish", evaluated, "--repo", REPO, "--dry-run", "--results", evaluated / "base")
    assert "0 trained parameters" in message
    (tmp_path / "metrics.json").write_text('{"official": 3}')
    message = refused("publish", evaluated, "--repo", REPO, "--dry-run", "--results", tmp_path)
    assert "metrics.json: not the metrics that evaluate writes" in message


def test_by_the_environment_variable(hub: Hub, evaluated: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """In processes of their own, HF_ENDPOINT says where the hub is: published by one, asked by another."""
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": hub.token}
    environment = {**os.environ, **own}
    program = [sys.executable, "-m", "mm_adapter"]
    publish = [*program, "publish", str(evaluated), "--repo", REPO]
    done = subprocess.run(publish, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    asked = ["--question", "Which?", "--choices", "red", "blue", "--llama", str(tiny_folder), "--json"]
    answer = [*program, "answer", "--adapter", f"hub:{REPO}", *asked]
    done = subprocess.run(answer, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answer"] in ("red", "blue")
