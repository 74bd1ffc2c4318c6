"""Whatever LlamaConfig and MistralConfig of transformers can say is computed as there, or refused by name."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from transformers.utils import logging

from mm_adapter.core.errors import UserError
from mm_adapter.llama.checkpoints.load import load_llama

KINDS = {"llama": (LlamaConfig, LlamaForCausalLM), "mistral": (MistralConfig, MistralForCausalLM)}
VOCABULARY = 40
SUPPORTED = ("default", "linear", "dynamic", "llama3")


@st.composite
def rotary(draw: st.DrawFn) -> dict[str, Any]:
    """Rotary settings in the spelling of one version of transformers or the other."""
    kind = draw(st.sampled_from([*SUPPORTED, *SUPPORTED, *SUPPORTED, "yarn", "longrope"]))
    theta = draw(st.sampled_from([None, 10000.0, 500000.0, 100.0]))
    factor = draw(st.sampled_from([1.0, 2.0, 4.5, 8.0]))
    settings: dict[str, dict[str, Any]] = {
        "default": {},
        "linear": {"factor": factor},
        "dynamic": {"factor": factor},
        "llama3": {"factor": factor, "low_freq_factor": 1.0, "high_freq_factor": draw(st.sampled_from([2.0, 4.0]))},
        "yarn": {"factor": factor, "original_max_position_embeddings": 16},
        "longrope": {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "original_max_position_embeddings": 16},
    }
    rope: dict[str, Any] = {draw(st.sampled_from(["rope_type", "type"])): kind, **settings[kind]}
    if kind == "llama3" and draw(st.booleans()):
        rope["original_max_position_embeddings"] = draw(st.sampled_from([8, 32]))
    outer: dict[str, Any] = {}
    if theta is not None:
        (rope if draw(st.booleans()) else outer)["rope_theta"] = theta
    if kind == "default" and draw(st.booleans()):
        return outer
    return {draw(st.sampled_from(["rope_parameters", "rope_scaling"])): rope, **outer}


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """What a config.json may say: keys are left out, null, or drawn; some models are none of ours."""
    kind = draw(st.sampled_from(["llama", "mistral"]))
    heads = draw(st.sampled_from([1, 2, 4]))
    values: dict[str, Any] = {
        "model_type": kind,
        "vocab_size": VOCABULARY,
        "hidden_size": draw(st.sampled_from([16, 32])),
        "intermediate_size": draw(st.sampled_from([24, 40])),
        "num_hidden_layers": draw(st.integers(1, 2)),
        "num_attention_heads": heads,
        "num_key_value_heads": draw(st.sampled_from([count for count in (1, 2, 4) if heads % count == 0])),
        "max_position_embeddings": draw(st.sampled_from([16, 64])),
    }
    if kind == "llama" and values["num_key_value_heads"] == heads and draw(st.booleans()):
        values["num_key_value_heads"] = None
    for key, choices in (
        ("head_dim", [None, 8, 12]),
        ("rms_norm_eps", [1e-5, 1e-6, 0.1]),
        ("tie_word_embeddings", [True, False]),
        ("attention_bias", [True, False]),
        ("mlp_bias", [True, False]),
        ("hidden_act", ["silu", "silu", "silu", "swish", "swish", "gelu", "relu"]),
        ("pretraining_tp", [1, 2]),
        ("sliding_window", [None, 8, 20, 4096]),
        ("attention_dropout", [0.0, 0.1]),
        ("torch_dtype", ["float16", "bfloat16"]),
        ("dtype", ["float32", "bfloat16"]),
        ("use_cache", [False]),
        ("initializer_range", [0.5]),
        ("bos_token_id", [None, 3]),
        ("eos_token_id", [None, 5, [5, 6]]),
        ("partial_rotary_factor", [1.0, 0.5]),
    ):
        # Some of the draws leave a key out.
        if draw(st.integers(0, 9)) < (1 if key == "partial_rotary_factor" else 6):
            values[key] = draw(st.sampled_from(choices))
    return values | draw(rotary())


def write(folder: Path, values: dict[str, Any], head: str, seed: int) -> bool:
    """Write config.json and random weights by transformers' own names; return False where it refuses them.

    Args:
        head: of tied embeddings: ``none`` is stored, a ``copy``, or one of its ``own``.
    """
    (folder / "config.json").write_text(json.dumps(values))
    config_class, model_class = KINDS[values["model_type"]]
    try:
        config = config_class.from_pretrained(folder)
        with torch.device("meta"):
            model = model_class(config)
    except Exception:
        return False
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(tensor.shape, generator=generator) * 0.3 + (1.0 if "norm" in name else 0.0)
        for name, tensor in model.state_dict().items()
    }
    if config.tie_word_embeddings:
        del tensors["lm_head.weight"]
        if head != "none":
            embedding = tensors["model.embed_tokens.weight"]
            tensors["lm_head.weight"] = embedding.clone() if head == "copy" else embedding.flip(0).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return True


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    values=configurations(),
    head=st.sampled_from(["none", "copy", "own"]),
    length=st.sampled_from([3, 12, 20]),
    seed=st.integers(0, 99),
)
def test_drawn_configurations(values: dict[str, Any], head: str, length: int, seed: int) -> None:
    """Logits within 1e-5 of transformers', relative to the largest, or one message; none differs in silence."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder = Path(tempfile.mkdtemp())
    try:
        if not write(folder, values, head, seed):
            return
        tokens = torch.randint(0, VOCABULARY, (2, length), generator=torch.Generator().manual_seed(seed))
        if must_be_refused(values, length):
            with pytest.raises(UserError):
                load_llama(str(folder)).model(tokens)
            return
        with torch.no_grad():
            found = load_llama(str(folder)).model(tokens)
        reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        with torch.no_grad():
            expected = reference(tokens).logits
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    finally:
        shutil.rmtree(folder)


def must_be_refused(values: dict[str, Any], length: int) -> bool:
    """What the decoder does not compute; all else it must."""
    rope = values.get("rope_scaling") or values.get("rope_parameters") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    limits = [values["max_position_embeddings"]] if kind == "dynamic" else []
    if values["model_type"] == "mistral":
        limits.append(values.get("sliding_window", 4096) or length)
    return (
        kind not in SUPPORTED
        or values.get("hidden_act", "silu") not in ("silu", "swish")
        or values.get("partial_rotary_factor", 1.0) != 1
        or length > min(limits, default=length)
    )
