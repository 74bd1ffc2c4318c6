"""Small models and data that many tests share."""

import json
import signal
from pathlib import Path

import pytest
import torch

from mm_adapter.llama import Llama, LlamaConfig

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Let Ctrl-C be heard: a test run in the background has it ignored, and the runs under test would heed that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real questions and reference outputs beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is absent: real questions and reference outputs are not part of the project")
    return SHARED


@pytest.fixture
def tiny_config() -> LlamaConfig:
    """A grouped-query model of four layers."""
    return LlamaConfig(
        vocab_size=300,
        hidden_size=48,
        num_layers=4,
        num_heads=6,
        num_kv_heads=2,
        head_dim=8,
        intermediate_size=80,
        context_length=256,
        tied_embeddings=True,
    )


@pytest.fixture
def tiny_llama(tiny_config: LlamaConfig) -> Llama:
    """A random frozen model of that shape."""
    torch.manual_seed(0)
    model = Llama(tiny_config)
    torch.nn.init.normal_(model.embedding.weight, std=0.5)
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder of a tiny random LLaMA with a byte-level tokenizer: everything that the commands need."""
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("tiny-llama")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<s>": 0, "</s>": 1, **{letter: index + 2 for index, letter in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    sizes = {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 4}
    config = {
        "model_type": "llama",
        "vocab_size": 258,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        **sizes,
    }
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(1)
    shapes = {"model.embed_tokens.weight": (258, 48), "model.norm.weight": (48,)}
    for layer in range(4):
        base = f"model.layers.{layer}"
        shapes |= {
            f"{base}.input_layernorm.weight": (48,),
            f"{base}.post_attention_layernorm.weight": (48,),
            f"{base}.self_attn.q_proj.weight": (48, 48),
            f"{base}.self_attn.k_proj.weight": (16, 48),
            f"{base}.self_attn.v_proj.weight": (16, 48),
            f"{base}.self_attn.o_proj.weight": (48, 48),
            f"{base}.mlp.gate_proj.weight": (80, 48),
            f"{base}.mlp.up_proj.weight": (80, 48),
            f"{base}.mlp.down_proj.weight": (48, 80),
        }
    tensors = {
        name: torch.ones(shape) if "norm" in name else torch.randn(shape, generator=generator) * 0.2
        for name, shape in shapes.items()
    }
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty generated questions in the official layout; not to be changed."""
    from data.demo import write_demo

    folder = tmp_path_factory.mktemp("demo") / "data"
    write_demo(folder, size=60)
    return folder
