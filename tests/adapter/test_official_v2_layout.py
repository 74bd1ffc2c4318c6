"""Adapters of the original multimodal V2 code: what they compute here, what their files must hold, and the way out."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from original_v1 import EPSILON, SIZES, original_base
from original_v2 import HEADS, LAYERS, LENGTH, TOKENS, original_adapter_v2, original_logits_v2, original_visual_query
from torch import Tensor

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.checkpoint import AdapterDescription, load_adapter, save_adapter
from mm_adapter.adapter.formats.official import read_official, write_official
from mm_adapter.adapter.formats.official_v2 import official_v2_tensors, read_official_v2, write_official_v2
from mm_adapter.core.errors import UserError
from mm_adapter.llama import Llama, LlamaConfig
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.llama.packing import Packing

KINDS = pytest.mark.parametrize("lora", [False, True], ids=["BIAS", "LORA-BIAS"])
UNUSED = ("llama.layers.0.attention.gate", "llama.layers.0.attention.new_gate")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Llama:
    """The tiny LLaMA of the independent implementation, read from Meta's layout."""
    folder = tmp_path_factory.mktemp("meta")
    torch.save(original_base(), folder / "consolidated.00.pth")
    params = {"dim": SIZES["dim"], "n_layers": SIZES["layers"], "n_heads": SIZES["heads"], "norm_eps": EPSILON}
    (folder / "params.json").write_text(json.dumps(params))
    return load_llama(str(folder)).model


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a checkpoint; ``flags`` differ from its tensors where they say so."""

    def save(tensors: dict[str, Tensor], **beside: Any) -> Path:
        lora = any("lora" in name for name in tensors)
        config = {"w_bias": True, "w_lora": lora, "lora_rank": 2}
        torch.save({"model": tensors, "config": config, **beside}, tmp_path / "adapter.pth")
        return tmp_path / "adapter.pth"

    return save


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(0, SIZES["vocab"], (3, 9), generator=generator)
    return tokens, torch.randn(3, 7, TOKENS, generator=generator)


def logits(adapter: Adapter, base: Llama, tokens: Tensor, seen: Tensor) -> Tensor:
    with torch.no_grad():
        return adapter.tuned(base)(tokens, prefixes=adapter.prefixes(base, seen))


@KINDS
@pytest.mark.parametrize("epsilon", [1e-5, 1e-6])
def test_the_visual_query_is_the_original_s(
    base: Llama, write: Callable[..., Path], lora: bool, epsilon: float
) -> None:
    """Queries and tokens through the blocks, with either epsilon of timm."""
    file = original_adapter_v2(lora)
    adapter, _ = read_official_v2(write(file), base.config, HEADS, epsilon)
    _, seen = inputs()
    assert adapter.visual_query is not None
    with torch.no_grad():
        found = adapter.visual_query(seen)
    for own, tokens in zip(found, seen, strict=True):
        assert (own - original_visual_query(file, tokens, epsilon)).abs().max() < 1e-5


@KINDS
def test_logits_are_the_original_s(base: Llama, write: Callable[..., Path], lora: bool) -> None:
    """Prompt by prompt, biases, norms, updates and factors; also after saving as an adapter of ours."""
    file = original_adapter_v2(lora)
    adapter, _ = read_official_v2(write(file), base.config, HEADS)
    tokens, seen = inputs()
    expected = torch.stack(
        [original_logits_v2(original_base(), file, *pair) for pair in zip(tokens, seen, strict=True)]
    )
    assert (logits(adapter, base, tokens, seen) - expected).abs().max() < 1e-5 * expected.abs().max()


@KINDS
def test_the_file_comes_out_as_it_came_in(base: Llama, write: Callable[..., Path], tmp_path: Path, lora: bool) -> None:
    """Through our own files and back: every tensor bit for bit, save the gates that nothing reads."""
    file = original_adapter_v2(lora)
    adapter, notes = read_official_v2(write(file), base.config, HEADS)
    assert any("gates of layer 0, which nothing reads" in note for note in notes)
    description = AdapterDescription(adapter.config, {"name": "x", "fingerprint": "y"}, None, {})
    save_adapter(tmp_path / "ours", adapter.state_dict(), description)
    again, _ = load_adapter(tmp_path / "ours", base.config)
    assert again.config == adapter.config
    write_official_v2(tmp_path / "out.pth", again, base.config)
    written = torch.load(tmp_path / "out.pth", weights_only=True)
    assert written["config"] == {"w_bias": True, "w_lora": lora, "lora_rank": 2 if lora else 16}
    assert written["model"].keys() == file.keys()
    assert {name for name in file if not torch.equal(file[name], written["model"][name])} <= set(UNUSED)


@KINDS
def test_the_frozen_model_stays_as_it_is(base: Llama, write: Callable[..., Path], lora: bool) -> None:
    """Bit for bit, while a second model with the updates lives beside it and shares every weight."""
    tokens, seen = inputs()
    with torch.no_grad():
        before = base(tokens)
    adapter, _ = read_official_v2(write(original_adapter_v2(lora)), base.config, HEADS)
    assert not torch.equal(logits(adapter, base, tokens, seen), before)
    own = {weight.data_ptr() for weight in base.parameters()}
    assert {weight.data_ptr() for weight in adapter.tuned(base).parameters()} <= own
    with torch.no_grad():
        assert torch.equal(base(tokens), before)


def test_closed_gates_without_updates_are_the_base(base: Llama) -> None:
    """A new adapter with a visual query, biases and updates that start at zero changes no logit."""
    shape = {"query_width": 8, "query_heads": 2, "query_inner": 8, "query_blocks": 1, "image_size": TOKENS}
    config = AdapterConfig(LAYERS, LENGTH, image_prompts="query", biases=True, lora_rank=2, prompt_scale=True, **shape)
    tokens, seen = inputs()
    with torch.no_grad():
        assert torch.equal(logits(Adapter(config, base.config), base, tokens, seen), base(tokens))


def test_packed_sequences_see_their_own_pictures(base: Llama, write: Callable[..., Path]) -> None:
    """Three sequences of different lengths in one row give the logits that each has alone."""
    adapter, _ = read_official_v2(write(original_adapter_v2(True)), base.config, HEADS)
    model, (tokens, seen), lengths = adapter.tuned(base), inputs(), (4, 9, 3)
    masks = [torch.ones(len(group), 1, most, most, dtype=torch.bool).tril() for group, most in (([0, 2], 4), ([1], 9))]
    packing = Packing.build(lengths, [[0, 2], [1]], masks)
    row = torch.cat([own[:length] for own, length in zip(tokens, lengths, strict=True)])[None]
    positions = torch.cat([torch.arange(length) for length in lengths])
    with torch.no_grad():
        packed = model(row, positions, packing, adapter.prefixes(model, seen))[0].split(lengths)
        for index, length in enumerate(lengths):
            alone = logits(adapter, base, tokens[index : index + 1, :length], seen[index : index + 1])[0]
            assert (packed[index] - alone).abs().max() < 1e-4


@pytest.mark.parametrize(("lora", "count", "numbers"), [(False, 363, 63_095_552), (True, 843, 103_072_544)])
def test_the_published_shape(lora: bool, count: int, numbers: int) -> None:
    """At the size of LLaMA-7B as many tensors and numbers as BIAS-7B and LORA-BIAS-7B hold."""
    llama = LlamaConfig(32000, 4096, 32, 32, 32, 128, 11008, 2048)
    kind = {"biases": True, "norms": True, "lora_rank": 16 if lora else 0, "prompt_scale": lora}
    with torch.device("meta"):
        adapter = Adapter(AdapterConfig(31, 10, image_size=768, image_prompts="query", **kind), llama)
    tensors = official_v2_tensors(adapter, llama)
    assert (len(tensors), sum(tensor.numel() for tensor in tensors.values())) == (count, numbers)


@KINDS
def test_every_missing_and_surplus_tensor_is_named(base: Llama, write: Callable[..., Path], lora: bool) -> None:
    """Each tensor of the layout is missed by its name; one more is refused by its name."""
    file = original_adapter_v2(lora)
    for name in [*list(file)[::7], "visual_blocks.1.norm2.bias", "llama.layers.3.ffn_norm.weight"]:
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            read_official_v2(write({key: value for key, value in file.items() if key != name}), base.config, HEADS)
    with pytest.raises(UserError, match=r"llama\.layers\.1\.attention\.wk\.bias has no place"):
        read_official_v2(write(file | {"llama.layers.1.attention.wk.bias": torch.zeros(32)}), base.config, HEADS)


def test_a_checkpoint_of_training(base: Llama, write: Callable[..., Path]) -> None:
    """Optimizer, scaler and a namespace are passed over, the frozen model and the tower are not read."""
    file = original_adapter_v2(False)
    frozen = {f"llama.{name}": tensor for name, tensor in original_base().items() if "norm" not in name}
    frozen["clip.visual.proj"] = torch.zeros(3, 3)
    args = argparse.Namespace(lr=1e-3, output_dir="out")
    path = write(file | frozen, optimizer={"state": {}}, epoch=3, scaler={"scale": 1.0}, args=args)
    adapter, notes = read_official_v2(path, base.config, HEADS)
    plain, _ = read_official_v2(write(file), base.config, HEADS)
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in adapter.state_dict().items())
    assert "the frozen model and the tower in the file are not read" in notes


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"w_bias": False}, "config says w_bias False, its tensors have biases"),
        ({"w_bias": True, "w_lora": True}, "config says w_lora True, its tensors have no low-rank updates"),
        ([1], "config is no table"),
    ],
)
def test_flags_that_contradict_the_tensors(base: Llama, write: Callable[..., Path], flags: Any, said: str) -> None:
    """The original would leave tensors out or begin them anew without a word."""
    with pytest.raises(UserError, match=said):
        read_official_v2(write(original_adapter_v2(False), config=flags), base.config, HEADS)


def test_what_no_file_tells_is_asked_for(base: Llama, write: Callable[..., Path]) -> None:
    """Heads of blocks that are not as wide as the published ones."""
    with pytest.raises(UserError, match="name them with --query-heads"):
        read_official_v2(write(original_adapter_v2(False)), base.config)
    with pytest.raises(UserError, match="5 query_heads cannot share"):
        read_official_v2(write(original_adapter_v2(False)), base.config, 5)


def test_versions_are_told_apart(base: Llama, write: Callable[..., Path], tmp_path: Path) -> None:
    """A V2 file is sent to the reader of V2; neither layout takes the other's adapter."""
    path = write(original_adapter_v2(False))
    with pytest.raises(UserError, match="--from official-v2"):
        read_official(path, base.config)
    adapter, _ = read_official_v2(path, base.config, HEADS)
    with pytest.raises(UserError, match="it is one of LLaMA-Adapter V2"):
        write_official(tmp_path / "out.pth", adapter, base.config)
    with pytest.raises(UserError, match="one vector for all prompts"):
        write_official_v2(tmp_path / "out.pth", Adapter(AdapterConfig(2, 3), base.config), base.config)


def test_features_of_another_kind(base: Llama, write: Callable[..., Path]) -> None:
    """Global features for an adapter that takes tokens are refused by shape."""
    adapter, _ = read_official_v2(write(original_adapter_v2(False)), base.config, HEADS)
    with pytest.raises(UserError, match="the adapter takes tokens of pictures"):
        adapter.prefixes(base, torch.zeros(2, TOKENS))
