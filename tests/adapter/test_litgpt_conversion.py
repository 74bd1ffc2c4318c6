"""litgpt's adapters, in and out, against its model written a second time; both of its row orders."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litgpt_model import Shape, litgpt_adapter, litgpt_logits, separate_base
from torch import Tensor

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.formats.litgpt import WEIGHTS_FILE, read_litgpt, write_litgpt
from mm_adapter.core.errors import UserError
from mm_adapter.llama import Llama, LlamaConfig

SHAPES = {
    "grouped": Shape(),
    "multi-head": Shape(n_query_groups=6),
    "multi-query": Shape(n_query_groups=1),
    "biased": Shape(bias=True),
    "wide heads": Shape(n_query_groups=3, head_size=16),
}
QKV = ("concatenated", "interleaved")
NAMES = {
    "q": "attention.query.weight",
    "k": "attention.key.weight",
    "v": "attention.value.weight",
    "proj": "attention.output.weight",
    "norm_1": "attention_norm.weight",
    "norm_2": "mlp_norm.weight",
    "fc_1": "mlp.gate.weight",
    "fc_2": "mlp.up.weight",
    "mlp_proj": "mlp.down.weight",
    **{f"{short}.bias": f"attention.{name}.bias" for short, name in zip("qkv", ("query", "key", "value"), strict=True)},
    "proj.bias": "attention.output.bias",
}
TOKENS = torch.arange(9) * 7 % 100


def to_llama(shape: Shape, weights: dict[str, Tensor]) -> Llama:
    """The same model in the package."""
    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.n_embd,
        num_layers=shape.n_layer,
        num_heads=shape.n_head,
        num_kv_heads=shape.n_query_groups,
        head_dim=shape.head_size,
        intermediate_size=shape.intermediate_size,
        norm_epsilon=shape.norm_eps,
        attention_bias=shape.bias,
    )
    fixed = {"wte": "embedding.weight", "lm_head": "head.weight", "ln_f": "norm.weight"}
    renamed = {}
    for name, tensor in weights.items():
        layer, _, rest = name.partition(".")
        renamed[fixed.get(name) or f"layers.{layer}.{NAMES[rest]}"] = tensor
    model = Llama(config)
    model.load_state_dict(renamed)
    return model.requires_grad_(False).eval()


def logits(llama: Llama, adapter: Adapter) -> Tensor:
    with torch.no_grad():
        return llama(TOKENS[None], prefixes=adapter.prefixes(llama))[0]


def trained(config: LlamaConfig, **changes: Any) -> Adapter:
    adapter = Adapter(AdapterConfig(**({"layers": 3, "prompt_length": 4} | changes)), config, seed=3)
    if adapter.gates is not None:
        with torch.no_grad():
            adapter.gates.copy_(torch.linspace(-1.2, 1.4, adapter.gates.numel()).view(adapter.gates.shape))
    return adapter


@pytest.mark.parametrize("qkv", QKV)
@pytest.mark.parametrize("name", SHAPES)
def test_an_import_has_litgpts_logits(tmp_path: Path, name: str, qkv: str) -> None:
    """For every kind of model, as litgpt computed before 0.5.5 and as it does since."""
    shape, weights = SHAPES[name], separate_base(SHAPES[name])
    adapter, llama = litgpt_adapter(shape, 4), to_llama(shape, weights)
    torch.save({"model": adapter}, tmp_path / WEIGHTS_FILE)
    found = logits(llama, read_litgpt(tmp_path, llama.config, qkv))
    assert (found - litgpt_logits(weights, adapter, TOKENS, shape, qkv)).abs().max() <= 1e-5
    other = litgpt_logits(weights, adapter, TOKENS, shape, QKV[1 - QKV.index(qkv)])
    assert ((found - other).abs().max() <= 1e-5) == (name == "multi-query")


@pytest.mark.parametrize("qkv", QKV)
@pytest.mark.parametrize("activation", ["tanh", "none"])
@pytest.mark.parametrize("name", SHAPES)
def test_an_export_has_the_same_logits_in_litgpt(tmp_path: Path, name: str, activation: str, qkv: str) -> None:
    """An adapter of the method goes to earlier versions, and to later ones where there is a single key head."""
    shape, weights = SHAPES[name], separate_base(SHAPES[name])
    llama = to_llama(shape, weights)
    adapter = trained(llama.config, gate_activation=activation)
    if qkv == "concatenated" and name != "multi-query":
        with pytest.raises(UserError, match=r"since 0\.5\.5 cannot hold .* --qkv interleaved"):
            write_litgpt(tmp_path / WEIGHTS_FILE, adapter, llama.config, qkv)
        assert not list(tmp_path.iterdir())
        return
    write_litgpt(tmp_path / WEIGHTS_FILE, adapter, llama.config, qkv)
    written = torch.load(tmp_path / WEIGHTS_FILE, weights_only=True)["model"]
    assert {tuple(tensor.shape) for tensor in written.values()} == {(4, 48), (1, 1, 6, 1)}
    assert (logits(llama, adapter) - litgpt_logits(weights, written, TOKENS, shape, qkv)).abs().max() <= 1e-5


def test_fewer_layers_get_closed_gates(tmp_path: Path) -> None:
    """litgpt adapts every layer from its start layer up; a closed gate adds nothing there."""
    shape, weights = SHAPES["grouped"], separate_base(SHAPES["grouped"])
    llama = to_llama(shape, weights)
    adapter = trained(llama.config, layers=1)
    write_litgpt(tmp_path / "a", adapter, llama.config, "interleaved")
    written = torch.load(tmp_path / "a", weights_only=True)["model"]
    assert len(written) == 6
    assert (logits(llama, adapter) - litgpt_logits(weights, written, TOKENS, shape, "interleaved")).abs().max() <= 1e-5


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    groups=st.sampled_from([1, 2, 3, 6]),
    length=st.integers(1, 4),
    qkv=st.sampled_from(QKV),
)
def test_round_trips_lose_nothing(tmp_path: Path, seed: int, groups: int, length: int, qkv: str) -> None:
    """File to adapter to file, bit for bit, in both row orders."""
    config = LlamaConfig(100, 48, 5, 6, groups, 8, 64)
    tensors = litgpt_adapter(Shape(n_query_groups=groups), length, seed)
    torch.save({"model": tensors}, tmp_path / "first")
    write_litgpt(tmp_path / "second", read_litgpt(tmp_path / "first", config, qkv), config, qkv)
    again = torch.load(tmp_path / "second", weights_only=True)["model"]
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(("shape", "expected"), [((1, 6, 1, 1), 6), ((1,), 1)])
def test_gates_of_early_versions(tmp_path: Path, shape: tuple[int, ...], expected: int) -> None:
    """Heads stood on another axis, or shared one gate."""
    config = LlamaConfig(100, 48, 5, 6, 2, 8, 64)
    tensors = litgpt_adapter(SHAPES["grouped"], 4)
    for layer in range(2, 5):
        name = f"transformer.h.{layer}.attn.gating_factor"
        tensors[name] = tensors[name].flatten()[:expected].clone().view(shape)
    torch.save(tensors, tmp_path / "a")
    adapter = read_litgpt(tmp_path / "a", config)
    assert adapter.gates is not None
    assert adapter.gates.shape == (3, 6)
    assert len(adapter.gates[0].unique()) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lm_head.adapter_scale": torch.ones(4)}, r"lm_head\.adapter_scale has no place in this format"),
        ({"transformer.h.3.attn.gating_factor": None}, r"h\.3\.attn\.gating_factor is missing"),
        ({"transformer.h.4.attn.adapter_wte.weight": torch.zeros(5, 48)}, r"of shape \(5, 48\), expected \(4, 48\)"),
        ({"transformer.h.2.attn.adapter_wte.weight": torch.zeros(0, 48)}, r"of shape \(0, 48\)"),
        ({"transformer.h.2.attn.gating_factor": torch.zeros(1, 1, 5, 1)}, r"of shape \(1, 1, 5, 1\)"),
        ({"transformer.h.9.attn.gating_factor": torch.zeros(1)}, "adapts layer 9, the model has 5"),
        ({"transformer.h.4.attn.gating_factor": torch.full((1,), float("nan"))}, "gates of layer 4 .* not finite"),
    ],
)
def test_what_cannot_come_in(tmp_path: Path, changes: dict[str, Tensor | None], message: str) -> None:
    """The second version's tensors would be lost; those that are missing or misshapen are named."""
    tensors = litgpt_adapter(SHAPES["grouped"], 4) | changes
    torch.save({name: tensor for name, tensor in tensors.items() if tensor is not None}, tmp_path / "a")
    with pytest.raises(UserError, match=message):
        read_litgpt(tmp_path / "a", LlamaConfig(100, 48, 5, 6, 2, 8, 64))


def test_files_of_another_kind(tmp_path: Path) -> None:
    """No adapter in it, no file, an unknown row order."""
    config = LlamaConfig(100, 48, 5, 6, 2, 8, 64)
    torch.save({"adapter_query.weight": torch.zeros(2, 2)}, tmp_path / "a")
    with pytest.raises(UserError, match="not an adapter of litgpt"):
        read_litgpt(tmp_path / "a", config)
    with pytest.raises(UserError, match=WEIGHTS_FILE):
        read_litgpt(tmp_path, config)
    with pytest.raises(UserError, match="qkv 'fused' is not known"):
        read_litgpt(tmp_path / "a", config, "fused")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 6}, "no place for the projection of its pictures"),
        ({"attention": "random-init"}, "it has no gates"),
        ({"layers": 4}, "starts at layer 1, litgpt's at 2"),
        ({"prompt_heads": "litgpt-0.5.5"}, r"before 0\.5\.5 cannot hold .* trained by litgpt 0\.5\.5 or later"),
    ],
)
def test_what_cannot_go_out(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """What the format has no words for is refused with the reason; no file appears."""
    config = LlamaConfig(100, 48, 5, 6, 2, 8, 64)
    with pytest.raises(UserError, match=message):
        write_litgpt(tmp_path / "a", trained(config, **changes), config, "interleaved")
    assert not list(tmp_path.iterdir())


def test_foreign_heads_go_with_plain_adapters_alone() -> None:
    """Pictures and random-init attention were never trained on litgpt's heads."""
    for changes in ({"image_size": 4}, {"attention": "random-init"}):
        with pytest.raises(UserError, match="text-only zero-init"):
            AdapterConfig(prompt_heads="litgpt-0.5.5", **changes)
