"""Compare every file format and shape of LLaMA that can be read with transformers, in float32, on tiny random models.

    python scripts/check_formats.py [--shapes NAME ...] [--formats NAME ...] [--tolerance 1e-5] [--json FILE]

A cell of the table is the largest absolute error of logits; a dash: the format cannot say such a model. Quantised
files are held against transformers on the values that ``gguf`` dequantises; greedy words are compared too.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import sentencepiece
import torch
import transformers
from bars import bar, write_bars
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import save_file
from torch import Tensor

from mm_adapter.inference.generation import generate_tokens
from mm_adapter.llama import Llama
from mm_adapter.llama.checkpoints.load import load_llama

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "llama"))
from llama_files import GGUF_NAMES, foreign_tensors, pieces_of, write_gguf, write_meta

transformers.logging.set_verbosity_error()
LINES = ["the cat sat on the mat", "which animal has feathers? a hen has", "12 times 34 is 408, light is fast"]
PROMPT, NEW_TOKENS = "the hen has 12 feathers and", 16


def _llama3(factor: float) -> dict[str, Any]:
    numbers = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    return {"rope_type": "llama3", "rope_theta": 500000.0, "factor": factor, **numbers}


SHAPES: dict[str, dict[str, Any]] = {
    "LLaMA 1": {"num_attention_heads": 8, "num_key_value_heads": 8, "rms_norm_eps": 1e-6},
    "grouped-query": {},
    "Llama 3.1": {"rope_parameters": _llama3(8.0), "max_position_embeddings": 131072},
    "Llama 3.2": {"rope_parameters": _llama3(32.0), "max_position_embeddings": 131072, "tie_word_embeddings": True},
    "tied": {"tie_word_embeddings": True},
    "head size": {"head_dim": 32},
    "bias": {"attention_bias": True},
    "Mistral": {"sliding_window": 4096, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
}


@dataclass(frozen=True)
class Original:
    """A random model of one shape, before it is written in any format.

    Attributes:
        shape: a key of ``SHAPES``.
        reference: as transformers computes it.
        folder: as transformers writes it, with the vocabulary.
        llama: the same weights in this package's naming, for the writers.
    """

    shape: str
    reference: Any
    folder: Path
    llama: Llama

    @property
    def scaling(self) -> float:
        """Llama 3's stretching of the rotary frequencies, 1 where there is none."""
        rope = SHAPES[self.shape].get("rope_parameters", {})
        return float(rope.get("factor", 1.0))


@dataclass(frozen=True)
class Cell:
    """What one format of one shape gave.

    Attributes:
        error: largest absolute difference of a logit.
        text, expected: what was written greedily, here and by transformers.
    """

    error: float
    text: str
    expected: str


def build(folder: Path, shape: str) -> Original:
    """Make a random model with transformers and write it with a vocabulary of SentencePiece."""
    pieces = folder / "tokenizer"
    folder.mkdir(parents=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES * 4), model_prefix=str(pieces), vocab_size=336, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        minloglevel=2,
    )  # fmt: skip
    kind = "Mistral" if shape == "Mistral" else "Llama"
    sizes = {"vocab_size": 336, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 16, "num_key_value_heads": 8, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, f"{kind}Config")(**{**sizes, **heads, "rms_norm_eps": 1e-5, **SHAPES[shape]})
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval().requires_grad_(False)
    for name, tensor in model.named_parameters():
        tensor.copy_(torch.randn_like(tensor) * 0.08 + (1.0 if "norm" in name else 0.0))
    model.save_pretrained(folder)
    return Original(shape, model, folder, load_llama(str(folder)).model)


def huggingface(suffix: str, shards: int) -> Callable[[Original, Path], Path]:
    """Return a writer of Hugging Face folders with weights of a suffix, in some shards."""

    def write(original: Original, folder: Path) -> Path:
        keep = shutil.ignore_patterns("*.safetensors", "*.index.json")
        shutil.copytree(original.folder, folder, ignore=keep)
        state = {name: value.clone() for name, value in original.reference.state_dict().items()}
        if original.reference.config.tie_word_embeddings:
            del state["lm_head.weight"]
        stem = "model.safetensors" if suffix == ".safetensors" else "pytorch_model.bin"
        names = [stem] if shards == 1 else [f"part-{index}{suffix}" for index in range(shards)]
        places = {name: names[index % shards] for index, name in enumerate(state)}
        for file in names:
            part = {name: value for name, value in state.items() if places[name] == file}
            save_file(part, folder / file) if suffix == ".safetensors" else torch.save(part, folder / file)
        if shards > 1:
            (folder / f"{stem}.index.json").write_text(json.dumps({"weight_map": places}))
        return folder

    return write


def meta(shards: int) -> Callable[[Original, Path], Path | None]:
    """Return a writer of Meta's layout; None for shapes that it cannot say."""

    def write(original: Original, folder: Path) -> Path | None:
        if original.shape in ("head size", "bias", "Mistral"):
            return None
        scaled = {"use_scaled_rope": True, "rope_scaling_factor": original.scaling} if original.scaling > 1 else {}
        axis = 0 if scaled else 1
        write_meta(
            folder, original.llama, shards, axis, vocab_size=336, multiple_of=256, ffn_dim_multiplier=0.75, **scaled
        )
        shutil.copy(original.folder / "tokenizer.model", folder)
        return folder

    return write


def write_quantised(original: Original, path: Path, kind: Kind) -> dict[str, Tensor]:
    """Write a GGUF file; return the matrices that the package dequantises from it, by the file's names."""
    tensors = {name: value.numpy() for name, value in foreign_tensors(original.llama, GGUF_NAMES, "blk").items()}
    raw = {name: blocks_of(value, kind) for name, value in tensors.items() if value.ndim == 2}
    vocabulary = pieces_of(sentencepiece.SentencePieceProcessor(model_file=str(original.folder / "tokenizer.model")))
    write_gguf(path, original.llama, kind, fill=vocabulary, replace=raw, rope_factors=rope_factors(original))
    return {name: torch.from_numpy(np.array(gguf.quants.dequantize(value, kind))) for name, value in raw.items()}


def blocks_of(values: np.ndarray, kind: Kind) -> np.ndarray:
    """Quantise with the package; kinds that it only reads are filled at random, their scales small."""
    if kind not in (Kind.Q4_K, Kind.Q6_K):
        return gguf.quants.quantize(values, kind)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    generator = np.random.default_rng(values.size)
    blocks = generator.integers(0, 256, (values.size // block, size), dtype=np.uint8)
    scales = [2e-4, 1e-3] if kind == Kind.Q4_K else [4e-5]
    place = slice(0, 4) if kind == Kind.Q4_K else slice(-2, None)
    blocks[:, place] = np.array(scales, dtype=np.float16).view(np.uint8)
    return blocks.reshape(len(values), -1)


def rope_factors(original: Original) -> Tensor | None:
    """Return the divisors that llama.cpp's converter stores for Llama 3.1 and 3.2, channel pair by pair."""
    if original.scaling == 1:
        return None
    factors = []
    for pair in range(original.llama.config.head_dim // 2):
        wavelength = 2 * np.pi * 500000.0 ** (2 * pair / original.llama.config.head_dim)
        smooth = (8192 / wavelength - 1) / 3
        between = 1 / ((1 - smooth) / original.scaling + smooth)
        factors.append(1.0 if wavelength < 8192 / 4 else original.scaling if wavelength > 8192 else between)
    return torch.tensor(factors, dtype=torch.float32)


def put_back(original: Original, matrices: dict[str, Tensor]) -> Any:
    """Return transformers' model with matrices of a GGUF file, rotary pairs put back where transformers has them."""
    names = {value: key for key, value in GGUF_NAMES.items()}
    own = {
        "embedding": "embed_tokens", "head": "lm_head", "attention.query": "self_attn.q_proj",
        "attention.key": "self_attn.k_proj", "attention.value": "self_attn.v_proj",
        "attention.output": "self_attn.o_proj", "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj",
    }  # fmt: skip
    config, state = original.llama.config, original.reference.state_dict()
    for name, matrix in matrices.items():
        *where, stem, kind = name.split(".")
        target = f"{own[names[stem]]}.{kind}"
        if stem in ("attn_q", "attn_k"):
            heads = config.num_heads if stem == "attn_q" else config.num_kv_heads
            rows = matrix.view(heads, -1, matrix.shape[1])
            matrix = torch.cat((rows[:, 0::2], rows[:, 1::2]), dim=1).reshape(matrix.shape)
        prefix = f"model.layers.{where[1]}." if where else "" if target.startswith("lm_head") else "model."
        state[prefix + target] = matrix
    if original.reference.config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = type(original.reference)(original.reference.config).eval()
    model.load_state_dict(state)
    return model


FORMATS: dict[str, Callable[[Original, Path], Path | None] | Kind] = {
    "safetensors": huggingface(".safetensors", 1),
    "safetensors x3": huggingface(".safetensors", 3),
    ".bin": huggingface(".bin", 1),
    ".bin x3": huggingface(".bin", 3),
    **{f"Meta x{shards}": meta(shards) for shards in (1, 2, 4, 8)},
    **{
        f"GGUF {kind.name}": kind
        for kind in (Kind.F32, Kind.F16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q4_K, Kind.Q6_K)
    },
}


def measure(original: Original, name: str, folder: Path) -> Cell | None:
    """Write a model in a format, load it and compare; None where the format cannot say the model."""
    writer = FORMATS[name]
    reference = original.reference
    if isinstance(writer, Kind):
        path: Path | None = folder.with_suffix(".gguf")
        reference = put_back(original, write_quantised(original, folder.with_suffix(".gguf"), writer))
    else:
        path = writer(original, folder)
    if path is None:
        return None
    loaded = load_llama(str(path))
    assert loaded.tokenizer is not None
    tokens = torch.randint(0, 336, (2, 100), generator=torch.Generator().manual_seed(1))
    prompt = [*loaded.tokenizer.begin, *loaded.tokenizer.encode(PROMPT)]
    written = generate_tokens(loaded.model, [prompt], -1, max_new_tokens=NEW_TOKENS)[0]
    expected = list(prompt)
    with torch.no_grad():
        error = float((loaded.model(tokens) - reference(tokens).logits).abs().max())
        for _ in range(NEW_TOKENS):
            expected.append(int(reference(torch.tensor([expected])).logits[0, -1].argmax()))
    text = loaded.tokenizer.decode(expected[len(prompt) :])
    return Cell(error, loaded.tokenizer.decode(written), text)


def run(shapes: Iterable[str], formats: Iterable[str]) -> dict[str, dict[str, Cell | None]]:
    """Return the cells by format and shape."""
    table: dict[str, dict[str, Cell | None]] = {name: {} for name in formats}
    with tempfile.TemporaryDirectory() as temporary:
        for shape in shapes:
            folder = Path(temporary) / shape.replace(" ", "-")
            original = build(folder / "original", shape)
            for index, name in enumerate(table):
                table[name][shape] = measure(original, name, folder / str(index))
            shutil.rmtree(folder)
    return table


def main() -> int:
    """Print the table; return 1 where a cell is beyond the tolerance or a text differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=list(SHAPES), help="columns")
    parser.add_argument("--formats", nargs="+", default=list(FORMATS), choices=list(FORMATS), help="rows")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="largest absolute error that passes")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    table = run(options.shapes, options.formats)
    print(" " * 16 + "".join(f"{shape:>15}" for shape in options.shapes))
    for name, row in table.items():
        print(f"{name:<16}" + "".join(f"{'-' if cell is None else f'{cell.error:.2e}':>15}" for cell in row.values()))
    cells = {f"{name}, {shape}": cell for name, row in table.items() for shape, cell in row.items() if cell is not None}
    different = [name for name, cell in cells.items() if cell.text != cell.expected]
    texts = {
        shape: {row[shape].text for name, row in table.items() if exact(name) and row[shape]}
        for shape in options.shapes
    }
    different += [f"formats of {shape}" for shape, written in texts.items() if len(written) > 1]
    print(f"greedy text: {len(different)} of {len(cells)} differ{': ' if different else ''}{'; '.join(different)}")
    bars = [bar(name, cell.error, options.tolerance, cell.error <= options.tolerance) for name, cell in cells.items()]
    bars.append(bar("greedy texts that differ", len(different), 0, not different))
    if options.json is not None:
        write_bars(options.json, bars)
    return 0 if all(entry["holds"] for entry in bars) else 1


def exact(name: str) -> bool:
    """Tell formats that keep float32 values as they are."""
    return not name.startswith("GGUF") or name.endswith("F32")


if __name__ == "__main__":
    sys.exit(main())
