"""The same model in transformers: what benchmarks compare with computes with our weights."""

from typing import Any

import torch

from mm_adapter.llama import Llama

_NAMES = {
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}
_TOP = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}


def reference_llama(llama: Llama) -> Any:
    """Return ``LlamaForCausalLM`` of transformers with the very weights of ``llama``; plain models only."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = llama.config
    assert shape.rope_scaling is None, "plain rotary embedding is all that is needed here"
    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.context_length,
        rms_norm_eps=shape.norm_epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        tie_word_embeddings=shape.tied_embeddings,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    state = {}
    for name, tensor in llama.state_dict().items():
        module, kind = name.rsplit(".", 1)
        parts = module.split(".", 2)
        place = f"model.layers.{parts[1]}.{_NAMES[parts[2]]}" if parts[0] == "layers" else _TOP[module]
        state[f"{place}.{kind}"] = tensor
    if shape.tied_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, assign=True)
    inverse = 1.0 / shape.rope_theta ** (torch.arange(0, shape.head_dim, 2).float() / shape.head_dim)
    model.model.rotary_emb.inv_freq = model.model.rotary_emb.original_inv_freq = inverse
    return model.requires_grad_(False).eval()
