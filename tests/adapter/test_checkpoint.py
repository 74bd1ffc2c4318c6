"""Adapters on disk: they come back as they were, for the base that they were trained on and for no other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mm_adapter.adapter import Adapter
from mm_adapter.adapter.checkpoint import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    AdapterDescription,
    check_base,
    load_adapter,
    read_description,
    save_adapter,
)
from mm_adapter.core.errors import UserError
from mm_adapter.llama import LlamaConfig

VISION = {"tower": "efficientnet-lite0", "fingerprint": "f" * 64, "depths": 4, "views": ["own"]}


@pytest.fixture
def saved(tmp_path: Path, make_adapter: Callable[..., Adapter]) -> tuple[Path, Adapter]:
    """A trained adapter and its folder."""
    adapter = make_adapter()
    describe = AdapterDescription(
        adapter.config, {"name": "tiny", "fingerprint": "a" * 64}, VISION, {"ranking": "mean"}
    )
    save_adapter(tmp_path / "run", adapter.state_dict(), describe)
    return tmp_path / "run", adapter


def edit(folder: Path, *path: str, value: Any) -> None:
    """Set a value in adapter_config.json; None of a value removes the key."""
    content = json.loads((folder / CONFIG_FILE).read_text())
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    (folder / CONFIG_FILE).write_text(json.dumps(content))


@pytest.mark.parametrize(
    "changes", [{}, {"image_size": 0}, {"attention": "random-init"}, {"attention": "random-init", "image_size": 0}]
)
def test_round_trip(
    tmp_path: Path, make_adapter: Callable[..., Adapter], tiny_config: LlamaConfig, changes: dict[str, Any]
) -> None:
    """Every tensor, gates included, and the whole description come back; nothing else is left in the folder."""
    adapter = make_adapter(**changes)
    vision = VISION if adapter.projection is not None else None
    describe = AdapterDescription(adapter.config, {"name": "tiny", "fingerprint": "ab"}, vision, {"max_length": 99})
    save_adapter(tmp_path, adapter.state_dict(), describe)
    loaded, description = load_adapter(tmp_path, tiny_config)
    assert description == describe
    assert loaded.state_dict().keys() == adapter.state_dict().keys()
    assert all(torch.equal(tensor, adapter.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    assert ("gates" in loaded.state_dict()) == ("attention" not in changes)
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG_FILE, WEIGHTS_FILE}


def test_adapters_from_before_conversions(saved: tuple[Path, Adapter], tiny_config: LlamaConfig) -> None:
    """What was saved before other projects' adapters came in squashes its gates and has its own heads."""
    edit(saved[0], "adapter", "gate_activation", value=None)
    edit(saved[0], "adapter", "prompt_heads", value=None)
    loaded, _ = load_adapter(saved[0], tiny_config)
    assert (loaded.config.gate_activation, loaded.config.prompt_heads) == ("tanh", "own")


def test_another_base_is_refused_by_name(saved: tuple[Path, Adapter]) -> None:
    """The message names the base that it belongs to and the one that was given."""
    description = read_description(saved[0])
    check_base(saved[0], description, "renamed", "a" * 64)
    with pytest.raises(UserError, match=r"trained on tiny .*not on other"):
        check_base(saved[0], description, "other", "b" * 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": torch.zeros(3, 4, 48)}, r"prompts has shape \(3, 4, 48\).*\(3, 5, 48\)"),
        ({"gates": torch.zeros(3, 4)}, r"gates has shape"),
        ({"surplus": torch.zeros(1)}, r"surplus has shape \(1,\).*none"),
        ({"gates": None}, r"gates has shape none"),
        ({"gates": torch.full((3, 6), float("nan"))}, "gates holds values that are not finite"),
        ({"prompts": torch.full((3, 5, 48), float("inf"))}, "prompts holds values that are not finite"),
    ],
)
def test_tensors_that_do_not_fit(
    saved: tuple[Path, Adapter], tiny_config: LlamaConfig, change: dict[str, Any], message: str
) -> None:
    """A tensor that is misshapen, missing, surplus or not finite is named."""
    path = saved[0] / WEIGHTS_FILE
    tensors = {name: tensor for name, tensor in (load_file(path) | change).items() if tensor is not None}
    save_file(tensors, path)
    with pytest.raises(UserError, match=message):
        load_adapter(saved[0], tiny_config)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_truncated_weights(saved: tuple[Path, Adapter], tiny_config: LlamaConfig, keep: int) -> None:
    """A truncated file is named, wherever it was cut."""
    path = saved[0] / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_adapter(saved[0], tiny_config)


def test_missing_files(saved: tuple[Path, Adapter], tiny_config: LlamaConfig) -> None:
    """Each of the two files is missed by name."""
    (saved[0] / WEIGHTS_FILE).unlink()
    with pytest.raises(UserError, match=f"{WEIGHTS_FILE}: the adapter's weights are missing"):
        load_adapter(saved[0], tiny_config)
    (saved[0] / CONFIG_FILE).unlink()
    with pytest.raises(UserError, match=f"{CONFIG_FILE}: adapter configuration does not exist"):
        load_adapter(saved[0], tiny_config)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"peft_type": "ADAPTION_PROMPT"}'])
def test_configuration_of_something_else(saved: tuple[Path, Adapter], tiny_config: LlamaConfig, content: str) -> None:
    """What is not JSON, or not ours, is refused by name."""
    (saved[0] / CONFIG_FILE).write_text(content)
    with pytest.raises(UserError, match=CONFIG_FILE):
        load_adapter(saved[0], tiny_config)


def test_newer_version(saved: tuple[Path, Adapter]) -> None:
    """A later format is not half understood."""
    edit(saved[0], "version", value=2)
    with pytest.raises(UserError, match="version 2 is newer"):
        read_description(saved[0])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("adapter",), None),
        (("adapter",), 3),
        (("adapter", "layers"), "three"),
        (("adapter", "layers"), 2.5),
        (("adapter", "prompt_length"), 0),
        (("adapter", "gate_activation"), "relu"),
        (("adapter", "gate_activation"), ["tanh"]),
        (("adapter", "prompt_heads"), 3),
        (("llama",), None),
        (("llama", "fingerprint"), None),
        (("llama", "name"), 7),
        (("vision",), "tower"),
        (("vision", "tower"), None),
        (("vision", "depths"), None),
        (("vision", "depths"), "four"),
        (("vision", "views"), "own"),
        (("vision", "fingerprint"), None),
        (("task",), None),
        (("task",), 5),
    ],
)
def test_damaged_configuration(
    saved: tuple[Path, Adapter], tiny_config: LlamaConfig, path: tuple[str, ...], value: Any
) -> None:
    """A key that is missing or of the wrong kind is an error of the file, not a traceback."""
    edit(saved[0], *path, value=value)
    with pytest.raises(UserError):
        load_adapter(saved[0], tiny_config)


def test_another_shape_of_base(saved: tuple[Path, Adapter]) -> None:
    """On a model of another width the tensors do not fit, on a shallower one the layers do not."""
    other = LlamaConfig(300, 64, 4, 8, 2, 8, 80)
    with pytest.raises(UserError, match="has shape"):
        load_adapter(saved[0], other)
    with pytest.raises(UserError, match="the model has 2"):
        load_adapter(saved[0], LlamaConfig(300, 48, 2, 6, 2, 8, 80))


def test_a_folder_that_cannot_be_written(tmp_path: Path, make_adapter: Callable[..., Adapter]) -> None:
    """Saving where a file stands says so."""
    (tmp_path / "file").write_text("")
    adapter = make_adapter()
    describe = AdapterDescription(adapter.config, {"name": "tiny", "fingerprint": "ab"}, VISION, {})
    with pytest.raises(UserError, match="cannot be written"):
        save_adapter(tmp_path / "file", adapter.state_dict(), describe)


def test_a_failed_save_keeps_the_old_adapter(
    saved: tuple[Path, Adapter], tiny_config: LlamaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up while saving loses nothing and leaves nothing half-written."""

    def full(tensors: Any, path: Path, metadata: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    folder, adapter = saved
    monkeypatch.setattr("mm_adapter.adapter.checkpoint.save_file", full)
    with pytest.raises(UserError, match="No space left"):
        save_adapter(folder, adapter.state_dict(), read_description(folder))
    loaded, _ = load_adapter(folder, tiny_config)
    assert torch.equal(loaded.prompts, adapter.prompts)
    assert {path.name for path in folder.iterdir()} == {CONFIG_FILE, WEIGHTS_FILE}
