"""The inspect command: what each kind of thing is, and why it cannot be used where it cannot."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mm_adapter.llama.checkpoints.load import load_llama


@pytest.fixture
def facts(command: Callable[..., Any]) -> Callable[[Path], dict[str, Any]]:
    """Return a function that inspects something for a program."""

    def run(path: Path) -> dict[str, Any]:
        outcome = command("inspect", path, "--json")
        found = json.loads(outcome.out)
        assert outcome.status == (0 if found["usable"] else 2), outcome
        assert found["reason"] in outcome.err
        return found

    return run


def test_model(command: Callable[..., Any], facts: Callable[[Path], dict[str, Any]], tiny_folder: Path) -> None:
    """A model's shape, vocabulary and the fingerprint that adapters name, as text and as JSON."""
    found, loaded = facts(tiny_folder), load_llama(str(tiny_folder))
    assert found["kind"] == "model"
    assert found["usable"]
    assert found["format"] == "Hugging Face"
    assert found["fingerprint"] == loaded.fingerprint
    assert found["parameters"] == sum(tensor.numel() for tensor in loaded.model.parameters())
    assert (found["dtype"], found["vocabulary"], found["padding"], found["end"]) == (["float32"], 258, 0, "</s>")
    text = command("inspect", tiny_folder).out
    assert loaded.fingerprint in text
    assert text.rstrip().endswith("yes")


def test_models_that_cannot_be_used(facts: Callable[[Path], dict[str, Any]], tmp_path: Path, tiny_folder: Path) -> None:
    """The reason is the message that loading would give; what is known is still said."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    (folder / "tokenizer.json").unlink()
    found = facts(folder)
    assert (found["usable"], found["layers"]) == (False, 4)
    assert "no tokenizer" in found["reason"]
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert "'gpt2' is not a LLaMA" in facts(folder)["reason"]


def test_adapter(facts: Callable[[Path], dict[str, Any]], tmp_path: Path, text_run: Path, tiny_folder: Path) -> None:
    """A trained adapter, its base, and an adapter whose base is gone or has other weights."""
    found = facts(text_run)
    assert (found["kind"], found["usable"], found["layers"], found["vision"]) == ("adapter", True, 2, None)
    assert found["base_fingerprint"] == load_llama(str(tiny_folder)).fingerprint
    assert found["parameters"] == 2 * 3 * 48 + 2 * 6
    run = Path(shutil.copytree(text_run, tmp_path / "run"))
    config = json.loads((run / "adapter_config.json").read_text())
    for llama, reason in (
        ({"fingerprint": "0" * 64}, "has other weights"),
        ({"name": str(tmp_path / "gone")}, "not on this machine"),
    ):
        changed = {**config, "llama": {**config["llama"], **llama}}
        (run / "adapter_config.json").write_text(json.dumps(changed))
        found = facts(run)
        assert not found["usable"]
        assert reason in found["reason"]
    (run / "adapter_config.json").write_text(json.dumps({"peft_type": "ADAPTION_PROMPT"}))
    found = facts(run)
    assert (found["usable"], found["format"]) == (False, "PEFT ADAPTION_PROMPT")


def test_feature_store(facts: Callable[[Path], dict[str, Any]], picture_run: Path, store: Path) -> None:
    """A store by its folder or file: tower, how many pictures, how wide."""
    found = facts(store)
    assert (found["kind"], found["usable"], found["tower"]) == ("feature store", True, "efficientnet-lite0")
    assert found["pictures"] > 0
    config = json.loads((picture_run / "adapter_config.json").read_text())
    assert found["width"] == config["adapter"]["image_size"]
    assert facts(Path(found["file"]))["fingerprint"] == found["fingerprint"]


def test_nothing_of_that_name(refused: Callable[..., str]) -> None:
    """A name that stands for nothing is bad input."""
    assert "no such file or folder" in refused("inspect", "absent")
