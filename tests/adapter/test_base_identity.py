"""An adapter belongs to what its base computes: the weights, and what configuration and tokenizer make of them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from mm_adapter.adapter import Adapter
from mm_adapter.adapter.checkpoint import AdapterDescription, base_name, check_base, read_description, save_adapter
from mm_adapter.core.errors import UserError
from mm_adapter.llama.checkpoints.load import LoadedLlama, load_llama
from mm_adapter.pretrained import read_parts


def changed(tiny_folder: Path, folder: Path, **config: Any) -> LoadedLlama:
    """The same weights with other settings."""
    shutil.copytree(tiny_folder, folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | config))
    return load_llama(str(folder))


@pytest.fixture
def saved(tmp_path: Path, tiny_folder: Path) -> tuple[Path, LoadedLlama]:
    """A folder whose description names the tiny model, and that model."""
    base = load_llama(str(tiny_folder))
    from mm_adapter.adapter import AdapterConfig

    adapter = Adapter(AdapterConfig(layers=2, prompt_length=3), base.model.config, seed=1)
    description = AdapterDescription(adapter.config, base.describe(), None, {})
    save_adapter(tmp_path / "adapter", adapter.state_dict(), description)
    return tmp_path / "adapter", base


def check(saved: Path, base: LoadedLlama) -> str | None:
    return check_base(saved, read_description(saved), base.name, base.fingerprint, base.identity)


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rotary frequencies"),
    ({"rope_theta": 500000.0}, "rotary frequencies"),
    ({"rms_norm_eps": 1e-6}, "norm epsilon"),
    ({"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16}, "query heads"),
    ({"model_type": "mistral", "sliding_window": 16}, "position limit"),
]


@pytest.mark.parametrize(("config", "message"), OTHERS)
def test_other_settings_are_refused_by_name(
    saved: tuple[Path, LoadedLlama], tiny_folder: Path, tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    """The same weights that compute something else are another base."""
    other = changed(tiny_folder, tmp_path / "other", **config)
    assert other.identity is not None
    assert saved[1].identity is not None
    assert other.identity.weights == saved[1].identity.weights
    assert other.fingerprint != saved[1].fingerprint
    with pytest.raises(UserError, match=f"same weights, but computes something else.*{message}"):
        check(saved[0], other)


def test_another_begin_token_is_refused(
    saved: tuple[Path, LoadedLlama], tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stands before every question is part of what was learnt."""
    folder = tmp_path / "other"
    changed(tiny_folder, folder)
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    backend.save(str(folder / "tokenizer.json"))
    with pytest.raises(UserError, match="begin tokens"):
        check(saved[0], load_llama(str(folder)))


def test_settings_that_compute_the_same_are_the_same(
    saved: tuple[Path, LoadedLlama], tiny_folder: Path, tmp_path: Path
) -> None:
    """The other spelling of the same rotary settings, another context length and a dtype change nothing."""
    for place, config in enumerate(
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
            {"rope_theta": 10000, "torch_dtype": "bfloat16", "max_position_embeddings": 99},
        )
    ):
        assert check(saved[0], changed(tiny_folder, tmp_path / str(place), **config)) is None


def test_an_older_adapter_loads_with_a_note(
    saved: tuple[Path, LoadedLlama], tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its fingerprint is that of the weights alone; other weights are refused as before."""
    assert saved[1].identity is not None
    path = saved[0] / "adapter_config.json"
    values = json.loads(path.read_text())
    values["llama"] = {"name": str(tiny_folder), "fingerprint": saved[1].identity.weights}
    path.write_text(json.dumps(values))
    from mm_adapter.distributed import SINGLE_PROCESS

    parts = read_parts(None, saved[0], None, "float32", "cpu", "none", SINGLE_PROCESS)
    assert parts.adapter is not None
    assert "an older adapter" in capsys.readouterr().err
    values["llama"]["fingerprint"] = "0" * 64
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match="has other weights"):
        check(saved[0], saved[1])


def test_a_base_is_named_by_an_absolute_path(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_adapter: Callable[..., Adapter]
) -> None:
    """An adapter is found its base from any folder; an older relative name is looked for beside the adapter as well."""
    shutil.copytree(tiny_folder, tmp_path / "models" / "tiny")
    monkeypatch.chdir(tmp_path)
    base = load_llama("models/tiny")
    assert base.describe()["name"] == str((tmp_path / "models" / "tiny").resolve())
    adapter = make_adapter(image_size=0)
    for name, beside in (("models/tiny", tmp_path / "run"), ("tiny", tmp_path / "models" / "run")):
        description = AdapterDescription(adapter.config, base.describe() | {"name": name}, None, {})
        save_adapter(beside, adapter.state_dict(), description)
        monkeypatch.chdir("/")
        assert Path(base_name(beside, read_description(beside))).samefile(tmp_path / "models" / "tiny")
        monkeypatch.chdir(tmp_path)
