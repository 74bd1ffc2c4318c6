"""Hugging Face folders: the same logits as transformers, and a clear word about folders that cannot be read."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from mm_adapter.core.errors import UserError
from mm_adapter.llama.checkpoints.load import load_llama

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama-1": {"tie_word_embeddings": False},
    "grouped-query": {"num_key_value_heads": 2, "tie_word_embeddings": False},
    "one-key-head": {"num_key_value_heads": 1, "rms_norm_eps": 1e-5},
    "tied": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "attention-bias": {"num_key_value_heads": 2, "attention_bias": True},
    "wide-heads": {"num_key_value_heads": 2, "head_dim": 16},
    "llama3-rope": {"num_key_value_heads": 2, "rope_parameters": LLAMA3, "max_position_embeddings": 256},
}


def build(folder: Path, kind: str = "llama", shard: str = "1GB", **changes: Any) -> Any:
    """Write a random model with transformers' own ``save_pretrained`` and return it."""
    sizes = {
        "vocab_size": 101,
        "hidden_size": 32,
        "intermediate_size": 56,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    classes = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    }
    config_class, model_class = classes[kind]
    torch.manual_seed(3)
    model = model_class(config_class(**(sizes | changes))).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.copy_(torch.randn_like(tensor) * 0.3 + (1.0 if "norm" in name else 0.0))
    model.save_pretrained(folder, max_shard_size=shard)
    return model


def largest_difference(folder: Path, reference: Any) -> float:
    tokens = torch.randint(0, 101, (2, 70), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return float((load_llama(str(folder)).model(tokens) - reference(tokens).logits).abs().max())


def edit_json(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, **changes}))


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_equal_transformers(tmp_path: Path, shape: str) -> None:
    """Every shape of the family computes what transformers computes."""
    reference = build(tmp_path, **SHAPES[shape])
    assert largest_difference(tmp_path, reference) < 1e-5


def test_the_older_spelling_of_rotary_settings_is_read(tmp_path: Path) -> None:
    """Folders on the hub say rope_theta and rope_scaling, not rope_parameters."""
    reference = build(tmp_path, **SHAPES["llama3-rope"])
    config = json.loads((tmp_path / "config.json").read_text())
    rope = config.pop("rope_parameters")
    config |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert largest_difference(tmp_path, reference) < 1e-5


def test_sharded_weights(tmp_path: Path) -> None:
    """Shards named by an index make the same model."""
    reference = build(tmp_path, shard="20KB", **SHAPES["grouped-query"])
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert largest_difference(tmp_path, reference) < 1e-5


@pytest.mark.parametrize("sharded", [False, True])
def test_bin_files(tmp_path: Path, sharded: bool) -> None:
    """Weights that torch pickled, whole or sharded by an index, are the same model."""
    reference = build(tmp_path, **SHAPES["grouped-query"])
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {"one.bin": names[::2], "two.bin": names[1::2]} if sharded else {"pytorch_model.bin": names}
    for file, members in files.items():
        torch.save({name: tensors[name] for name in members}, tmp_path / file)
    if sharded:
        places = {name: file for file, members in files.items() for name in members}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    assert largest_difference(tmp_path, reference) < 1e-5
    if sharded:
        torch.save(tensors, tmp_path / "two.bin")
        with pytest.raises(UserError, match="there twice"):
            load_llama(str(tmp_path))
        (tmp_path / "two.bin").unlink()
        with pytest.raises(UserError, match=r"two\.bin \(of 2 shards\)"):
            load_llama(str(tmp_path))


def lie(header: dict[str, Any], name: str, **changes: Any) -> bytes:
    text = json.dumps({**header, name: {**header[name], **changes}}).encode()
    return struct.pack("<Q", len(text)) + text


def test_safetensors_headers_that_lie(tmp_path: Path) -> None:
    """Offsets beyond the file, overlapping, or of another size than the shape are refused, and so are whole numbers."""
    build(tmp_path)
    path, name = tmp_path / "model.safetensors", "model.norm.weight"
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    begin, end = header[name]["data_offsets"]
    for offsets in ([begin, end + (1 << 60)], [0, end - begin], [begin, end + 4], [end, begin]):
        path.write_bytes(lie(header, name, data_offsets=offsets) + data)
        with pytest.raises(UserError, match=r"model\.safetensors: not a readable"):
            load_llama(str(tmp_path))
    path.write_bytes(lie(header, name, shape=[1 << 40]) + data)
    with pytest.raises(UserError, match=r"model\.safetensors: not a readable"):
        load_llama(str(tmp_path))
    path.write_bytes(lie(header, name, dtype="I32") + data)
    with pytest.raises(UserError, match=r"model\.norm\.weight has dtype torch\.int32"):
        load_llama(str(tmp_path))


def test_linear_scaling(tmp_path: Path) -> None:
    """The oldest way of stretching positions: all frequencies divided alike."""
    reference = build(tmp_path, rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0})
    assert largest_difference(tmp_path, reference) < 1e-5


def test_a_sliding_window_shortens_the_context(tmp_path: Path) -> None:
    """Up to its window a Mistral attends to everything; what lies beyond is out of its context here."""
    reference = build(tmp_path, "mistral", num_key_value_heads=2, sliding_window=70)
    assert largest_difference(tmp_path, reference) < 1e-5
    assert load_llama(str(tmp_path)).model.config.context_length == 70


def test_mistral_without_window(tmp_path: Path) -> None:
    """A Mistral that attends to everything is a LLaMA."""
    reference = build(tmp_path, "mistral", num_key_value_heads=2, sliding_window=None)
    assert largest_difference(tmp_path, reference) < 1e-5


def test_bfloat16(tmp_path: Path) -> None:
    """The caller chooses the dtype; the result is the float32 one to bfloat16's precision, the fingerprint the same."""
    reference = build(tmp_path, **SHAPES["grouped-query"])
    loaded, wide = load_llama(str(tmp_path), torch.bfloat16), load_llama(str(tmp_path))
    assert {tensor.dtype for tensor in loaded.model.state_dict().values()} == {torch.bfloat16}
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        expected = reference(tokens).logits
    error = (loaded.model(tokens).float() - expected).abs().max() / expected.abs().max()
    assert error < 0.05
    assert loaded.fingerprint == wide.fingerprint


def test_fingerprint_tells_weights_apart(tmp_path: Path) -> None:
    """Changed weights are another base."""
    build(tmp_path, **SHAPES["tied"])
    before = load_llama(str(tmp_path)).fingerprint
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.norm.weight"] += 1
    save_file(tensors, tmp_path / "model.safetensors")
    assert load_llama(str(tmp_path)).fingerprint != before


def test_nothing_of_the_base_is_trainable(tmp_path: Path) -> None:
    """A loaded model is frozen and in evaluation mode."""
    build(tmp_path)
    model = load_llama(str(tmp_path)).model
    assert not model.training
    assert not any(tensor.requires_grad for tensor in model.parameters())


def test_end_tokens_may_be_a_list(tmp_path: Path) -> None:
    """Llama 3 names several end tokens."""
    build(tmp_path)
    edit_json(tmp_path / "config.json", eos_token_id=[5, 6])
    assert load_llama(str(tmp_path)).model.config.end_tokens == (5, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt_neox"}, "gpt_neox"),
        ({"model_type": None}, "not a LLaMA"),
        ({"model_type": "mistral", "sliding_window": "no"}, "sliding_window is 'no'"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"bos_token_id": 101}, "101 is not a token of 101"),
        ({"num_hidden_layers": 10**9}, "beyond anything"),
        ({"num_hidden_layers": 10**6}, "1000000 layers"),
        ({"mlp_bias": True}, r"missing layers\.0\.mlp\.gate\.bias"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings is 'yes'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types"),
        ({"rope_scaling": {"full_attention": {"rope_type": "linear"}}}, "one object for all layers"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "yarn"),
        ({"rope_parameters": {"type": "linear", "factor": "2"}}, "rotary divisor"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}, "low_freq_factor"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_hidden_layers": "3"}, "num_hidden_layers"),
        ({"num_attention_heads": 0}, "num_heads"),
        ({"num_attention_heads": 3, "num_key_value_heads": 2}, "share"),
        ({"head_dim": 7}, "odd"),
    ],
)
def test_configurations_that_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """What this decoder cannot compute is refused by name before any weight is read."""
    build(tmp_path)
    edit_json(tmp_path / "config.json", **changes)
    with pytest.raises(UserError, match=message):
        load_llama(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[1]", "\udcff"])
def test_config_that_is_no_object(tmp_path: Path, content: str) -> None:
    """A damaged config.json is named."""
    build(tmp_path)
    (tmp_path / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"config\.json"):
        load_llama(str(tmp_path))


@pytest.mark.parametrize("keep", [0, 5, 200, -1])
def test_truncated_safetensors(tmp_path: Path, keep: int) -> None:
    """A truncated weight file is named, wherever it was cut."""
    build(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"model\.safetensors: not a readable"):
        load_llama(str(tmp_path))


def drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["model.layers.1.mlp.up_proj.weight"]


def add(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.1.mlp.strange.weight"] = torch.zeros(2)


def misshape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(3, 4)


def drop_all(tensors: dict[str, torch.Tensor]) -> None:
    for name in list(tensors)[:8]:
        del tensors[name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"missing layers\.1\.mlp\.up\.weight"),
        (add, r"surplus model\.layers\.1\.mlp\.strange\.weight"),
        (misshape, r"layers\.1\.mlp\.up\.weight has shape \(3, 4\), expected \(56, 32\)"),
        (drop_all, "and 3 more"),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, change: Callable[..., None], message: str) -> None:
    """A tensor that is missing, surplus or misshapen is named."""
    build(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=message):
        load_llama(str(tmp_path))


def test_surplus_tensors_that_old_folders_carry(tmp_path: Path) -> None:
    """Old folders store rotary frequencies and a copy of a tied head; both are passed over."""
    reference = build(tmp_path, **SHAPES["tied"])
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, tmp_path / "model.safetensors")
    assert largest_difference(tmp_path, reference) < 1e-5


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"a": "../outside.safetensors"}}, "leaves the model's folder"),
        ({"weight_map": {"a": "/etc/passwd"}}, "leaves the model's folder"),
        ({"weight_map": {"a": "absent.safetensors"}}, r"no such weight file: absent\.safetensors"),
        ({"weight_map": {"a": "config.json"}}, r"neither \.safetensors nor \.bin"),
        ({"weight_map": {"a": 3}}, "no weight_map"),
        ({}, "no weight_map"),
        ([], "no weight_map"),
    ],
)
def test_index_of_shards(tmp_path: Path, index: Any, message: str) -> None:
    """An index may name files of its own folder only, and they must be there."""
    build(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=message):
        load_llama(str(tmp_path))


def test_folder_without_weights(tmp_path: Path) -> None:
    """A folder that only has its configuration says what is missing."""
    build(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"neither model\.safetensors"):
        load_llama(str(tmp_path))
