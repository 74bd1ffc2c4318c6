"""Adapters in the original V1 layout, in and out, against that model written a second time."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from original_v1 import EPSILON, SIZES, original_adapter, original_base, original_logits
from safetensors.torch import load_file
from torch import Tensor

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.formats.official import read_official, write_official
from mm_adapter.core.errors import UserError
from mm_adapter.llama import Llama, LlamaConfig
from mm_adapter.llama.checkpoints.load import load_llama

TOKENS = torch.arange(11) * 17 % SIZES["vocab"]


@pytest.fixture(scope="module")
def base() -> dict[str, Tensor]:
    """A random model in Meta's naming."""
    return original_base()


@pytest.fixture(scope="module")
def llama(base: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Llama:
    """The same model as the package reads it."""
    folder = tmp_path_factory.mktemp("meta")
    torch.save(base, folder / "consolidated.00.pth")
    sizes = {"dim": SIZES["dim"], "n_layers": SIZES["layers"], "n_heads": SIZES["heads"], "norm_eps": EPSILON}
    (folder / "params.json").write_text(json.dumps({**sizes, "vocab_size": -1}))
    return load_llama(str(folder)).model


def logits(llama: Llama, adapter: Adapter) -> Tensor:
    with torch.no_grad():
        return llama(TOKENS[None], prefixes=adapter.prefixes(llama))[0]


def trained(config: LlamaConfig, spread: float = 1.0, **changes: Any) -> Adapter:
    adapter = Adapter(AdapterConfig(**({"layers": 3, "prompt_length": 5} | changes)), config, seed=3)
    if adapter.gates is not None:
        with torch.no_grad():
            adapter.gates.copy_(spread * torch.randn(adapter.gates.shape, generator=torch.Generator().manual_seed(4)))
    return adapter


@pytest.mark.parametrize("gate", ["tanh", "plain"])
def test_an_import_has_the_originals_logits(base: dict[str, Tensor], llama: Llama, tmp_path: Path, gate: str) -> None:
    """As the training code computes with tanh, as the inference code without; the two differ."""
    adapter = original_adapter(layers=3, length=5)
    torch.save(adapter, tmp_path / "adapter.pth")
    found = logits(llama, read_official(tmp_path / "adapter.pth", llama.config, 3, gate))
    expected = {kind: original_logits(base, adapter, TOKENS, 3, kind == "tanh") for kind in ("tanh", "plain")}
    assert (found - expected[gate]).abs().max() <= 1e-5
    assert (expected["tanh"] - expected["plain"]).abs().max() > 1e-2


@pytest.mark.parametrize("gate", ["tanh", "plain"])
@pytest.mark.parametrize("activation", ["tanh", "none"])
def test_an_export_has_the_same_logits_in_the_original(
    base: dict[str, Tensor], llama: Llama, tmp_path: Path, gate: str, activation: str
) -> None:
    """From squashed gates and from plain ones, for the training code and for the inference code."""
    adapter = trained(llama.config, 0.3, gate_activation=activation)
    write_official(tmp_path / "adapter.pth", adapter, llama.config, gate)
    written = torch.load(tmp_path / "adapter.pth", weights_only=True)
    assert written["adapter_query.weight"].shape == (15, SIZES["dim"])
    assert written["layers.0.attention.gate"].shape == (1, SIZES["heads"], 1, 1)
    expected = original_logits(base, written, TOKENS, 3, gate == "tanh")
    assert (logits(llama, adapter) - expected).abs().max() <= 1e-5
    assert (expected - original_logits(base, written, TOKENS, 3, gate != "tanh")).abs().max() > 1e-4


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    layers=st.integers(1, 4),
    length=st.integers(1, 4),
    gate=st.sampled_from(["tanh", "plain"]),
    spread=st.sampled_from([0.0, 1e-4, 1.0, 30.0]),
)
def test_round_trips_lose_nothing(
    tmp_path: Path, llama: Llama, seed: int, layers: int, length: int, gate: str, spread: float
) -> None:
    """File to adapter to file: bit for bit where an adapter reads it, closed gates where none does."""
    first, second = tmp_path / "first.pth", tmp_path / "second.pth"
    tensors = original_adapter(layers, length, seed, spread)
    torch.save(tensors, first)
    write_official(second, read_official(first, llama.config, layers, gate), llama.config, gate)
    again = torch.load(second, weights_only=True)
    unused = {f"layers.{layer}.attention.gate" for layer in range(SIZES["layers"] - layers)}
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors.keys() - unused)
    assert not any(again[name].any() for name in unused)


def test_the_recorded_adapter_survives(shared: Path, tmp_path: Path) -> None:
    """The original's own adapter, read and written and read, still gives its recorded logits."""
    folder = shared / "parity" / "official_v1"
    llama, expected = load_llama(str(folder)).model, load_file(folder / "expected.safetensors")
    write_official(tmp_path / "a.pth", read_official(folder / "adapter.pth", llama.config, 3), llama.config)
    adapter = read_official(tmp_path / "a.pth", llama.config, 3)
    with torch.no_grad():
        found = llama(expected["tokens"].long(), prefixes=adapter.prefixes(llama))[:, :-1]
    assert (found - expected["logits"]).abs().max() <= 1e-5


def test_ten_prompts_a_layer_unless_told(llama: Llama, tmp_path: Path) -> None:
    """Without --layers the published prompt length counts; rows that it does not divide need the number."""
    torch.save(original_adapter(2, 10), tmp_path / "adapter.pth")
    assert read_official(tmp_path / "adapter.pth", llama.config).config.layers == 2
    torch.save(original_adapter(3, 5), tmp_path / "adapter.pth")
    with pytest.raises(UserError, match="15 rows are not ten prompts a layer; say with --layers"):
        read_official(tmp_path / "adapter.pth", llama.config)
    torch.save(original_adapter(6, 10), tmp_path / "adapter.pth")
    with pytest.raises(UserError, match="6 layers, the model has 4"):
        read_official(tmp_path / "adapter.pth", llama.config)


def test_a_whole_training_checkpoint_is_read(base: dict[str, Tensor], llama: Llama, tmp_path: Path) -> None:
    """The original's training saves the frozen model too, under a key of its own."""
    torch.save({"model": {**base, **original_adapter(3, 5)}, "epoch": torch.tensor(4)}, tmp_path / "checkpoint.pth")
    assert read_official(tmp_path / "checkpoint.pth", llama.config, 3).config.prompt_length == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_proj.weight": torch.zeros(4, 4)}, r"clip_proj\.weight has no place in this format and would be lost"),
        ({"layers.2.attention.wq.bias": torch.zeros(4)}, r"wq\.bias has no place"),
        ({"layers.3.attention.gate": torch.zeros(4)}, r"layers\.3\.attention\.gate is of shape \(4,\)"),
        ({"layers.3.attention.gate": torch.full((1, 4, 1, 1), float("nan"))}, "gates of layer 3 .* not finite"),
        ({"adapter_query.weight": torch.full((15, 32), float("inf"))}, "prompts of layer 1 .* not finite"),
        (
            {"adapter_query.weight": torch.zeros(1, 1).expand(3 * 10**9, 32)},
            r"adapter_query\.weight is no plain tensor",
        ),
        ({"adapter_query.weight": torch.zeros(15, 32, device="meta")}, "no plain tensor"),
        ({"layers.3.attention.gate": torch.zeros(1, 4, 1, 1).to_sparse()}, r"layers\.3\.attention\.gate is no plain"),
        ({"layers.3.attention.gate": torch.zeros(1, 4, 1, 1, dtype=torch.int64)}, "of floating-point numbers"),
        ({7: torch.zeros(1)}, "something other than tensors by name"),
        ({"adapter_query.weight": torch.zeros(0, 32)}, "cannot share"),
        ({"adapter_query.weight": torch.zeros(15)}, "missing or no matrix"),
    ],
)
def test_what_cannot_come_in(llama: Llama, tmp_path: Path, changes: dict[str, Tensor], message: str) -> None:
    """Tensors of the multimodal variant and of V2 would be lost; those that do not fit are named."""
    torch.save(original_adapter(3, 5) | changes, tmp_path / "adapter.pth")
    with pytest.raises(UserError, match=message):
        read_official(tmp_path / "adapter.pth", llama.config, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 6}, "no place for the projection of its pictures"),
        ({"attention": "random-init"}, "it has no gates"),
        ({"prompt_heads": "litgpt-0.5.5"}, r"trained by litgpt 0\.5\.5 or later"),
        ({"gate_activation": "none"}, r"the gate of layer 2, head 3 is -1\.5, and tanh stays below 1"),
    ],
)
def test_what_cannot_go_out(llama: Llama, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """What the layout has no words for is refused with the reason; no file appears."""
    adapter = trained(llama.config, 0.1, **changes)
    if "gate_activation" in changes:
        with torch.no_grad():
            adapter.gates[1, 3] = -1.5
    with pytest.raises(UserError, match=message):
        write_official(tmp_path / "adapter.pth", adapter, llama.config)
    assert not list(tmp_path.iterdir())
    if "gate_activation" in changes:
        write_official(tmp_path / "adapter.pth", adapter, llama.config, "plain")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_kv_heads": 2}, "grouped queries"),
        ({"attention_bias": True}, "a bias"),
        ({"rope_theta": 5e5}, "rotary base 500000"),
        ({"head_dim": 16}, "not D / H wide"),
    ],
)
def test_models_that_the_original_cannot_run(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """An adapter for a model that the original's code has no layer for could not be read there."""
    sizes = {"num_heads": 4, "num_kv_heads": 4, "head_dim": 8, "intermediate_size": 56} | changes
    config = LlamaConfig(vocab_size=120, hidden_size=32, num_layers=4, **sizes)
    with pytest.raises(UserError, match=message):
        write_official(tmp_path / "adapter.pth", trained(config), config)


def test_unknown_gate(llama: Llama, tmp_path: Path) -> None:
    """A gate that is neither kind is refused by both directions."""
    torch.save(original_adapter(3, 5), tmp_path / "adapter.pth")
    with pytest.raises(UserError, match="gate 'sigmoid' is not known"):
        read_official(tmp_path / "adapter.pth", llama.config, 3, "sigmoid")
    with pytest.raises(UserError, match="gate 'sigmoid' is not known"):
        write_official(tmp_path / "out.pth", trained(llama.config), llama.config, "sigmoid")
