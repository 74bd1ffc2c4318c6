"""From a name or path to a loaded, frozen model: finds the format, streams the tensors, checks every key and shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mm_adapter.core import QUANTIZATIONS
from mm_adapter.core.errors import UserError, located, suggestion
from mm_adapter.core.files import DEFAULT_LLAMA, HUB, SMOLLM2_135M, check_place, fetch, refuse_pointer
from mm_adapter.core.fingerprint import ModelIdentity, Sampler, join_digests
from mm_adapter.llama.attention import rotary_frequencies
from mm_adapter.llama.checkpoints.huggingface import open_huggingface
from mm_adapter.llama.checkpoints.meta import open_meta
from mm_adapter.llama.checkpoints.source import StoredTensor, WeightSource
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.llama.frozen.matrix import Matrix, place_matrices
from mm_adapter.llama.frozen.offload import offload_layers
from mm_adapter.llama.frozen.quantized import GROUP, Int4Matrix, Int8Matrix
from mm_adapter.llama.model import Llama
from mm_adapter.llama.tokenizers.chat_template import ChatTemplate, find_chat_template
from mm_adapter.llama.tokenizers.tokenizer import Tokenizer

_HUB_FILES = ["*.json", "*.safetensors", "tokenizer.model", "params.json", "chat_template.jinja"]
_PADDING = 1024  # rows of an embedding beyond its vocabulary; published models have up to a few hundred


@dataclass(frozen=True)
class LoadedLlama:
    """A frozen model with what identifies it.

    Attributes:
        model: in evaluation mode, no parameter requires a gradient.
        tokenizer: None where the files have none.
        name: as the user gave it.
        fingerprint: of sampled weights and of what is computed with them; the same in another format or dtype.
        chat: how conversations are written for it; None where neither its files nor its special tokens say.
        identity: what the fingerprint stands for; None of a model that is in no file.
    """

    model: Llama
    tokenizer: Tokenizer | None
    name: str
    fingerprint: str
    chat: ChatTemplate | None = None
    identity: ModelIdentity | None = None

    def describe(self) -> dict[str, Any]:
        """Return what an adapter's file says of its base; a path is absolute there, so that it holds in any folder."""
        return describe_base(self.name, self.fingerprint, self.identity)


def describe_base(name: str, fingerprint: str, identity: ModelIdentity | None) -> dict[str, Any]:
    """Return name, fingerprint and identity of a base model, ready for JSON."""
    path = Path(name).expanduser()
    where = str(path.resolve()) if name != DEFAULT_LLAMA and path.exists() else name
    parts = {} if identity is None else {"weights": identity.weights, "computes": dict(identity.computes)}
    return {"name": where, "fingerprint": fingerprint, **parts}


def identify(weights: str, config: LlamaConfig, tokenizer: Tokenizer | None) -> ModelIdentity:
    """Return what makes a model the one that it is.

    Args:
        weights: fingerprint of its tensors; biases and a head of its own are among them.
        config: its shape.
        tokenizer: its begin tokens stand before every question; None where it has none.
    """
    computes: dict[str, Any] = {
        "activation": "silu",
        "query heads, key heads, head width": [config.num_heads, config.num_kv_heads, config.head_dim],
        "norm epsilon": float(config.norm_epsilon),
        "rotary frequencies": [float(f"{value:.6g}") for value in rotary_frequencies(config).tolist()],
        "position limit": config.position_limit,
    }
    begin = {} if tokenizer is None else {"begin tokens": list(tokenizer.begin)}
    return ModelIdentity(weights, computes | begin)


def load_llama(
    name: str,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
    quantization: str = "none",
    offload: bool = False,
) -> LoadedLlama:
    """Load a LLaMA from ``smollm2-135m``, a GGUF file, a Hugging Face or Meta folder, or ``hub:owner/name``.

    Weights of the wanted dtype stay memory-mapped where the format allows it; others are converted some rows at a time,
    so that little beyond the model itself is ever in memory. Quantised, the model is never whole in memory otherwise;
    its fingerprint is that of the stored weights.

    Args:
        name: of the model.
        dtype: of the weights, and of what is computed with them; of norms and biases alone where they are quantised.
        device: where is computed.
        quantization: of the matrices: none, int8, int4 or blocks, see ``mm_adapter.llama.checkpoints.load``.
        offload: leave the layers in the host's memory, see ``mm_adapter.llama.frozen.offload``.

    Raises:
        UserError: nothing usable has that name, a tensor is missing, surplus or misshapen, the tokenizer is that of
            another model, or the quantisation is not known, not possible in this format, or its library is missing.
    """
    check_quantization(quantization)
    source = open_source(name)
    stored = check_tensors(name, source)
    tokenizer = check_tokenizer(name, source)
    chat = None if tokenizer is None else find_chat_template(tokenizer, source.chat_template())
    tensors: dict[str, Tensor] = {}
    matrices: dict[str, Matrix] = {}
    digests: dict[str, bytes] = {}
    for key, tensor in stored.items():
        module = key.removesuffix(".weight")
        with_digest = quantized(module, tensor, quantization)
        if with_digest is not None:
            matrices[module], digests[key] = with_digest
        else:
            tensors[key], digests[key] = tensor.load(dtype)
    with torch.device("meta"):
        model = Llama(source.config)
    place_matrices(model, matrices, dtype)
    model.load_state_dict(tensors, assign=True)
    model.requires_grad_(False).eval()
    if offload:
        offload_layers(model, torch.device(device))
    model.to(device)
    identity = identify(join_digests(digests), source.config, tokenizer)
    return LoadedLlama(model, tokenizer, name, identity.fingerprint, chat, identity)


def open_source(name: str) -> WeightSource:
    """Open the model that ``name`` stands for, without loading its weights.

    Raises:
        UserError: nothing usable has that name.
    """
    check_place(name, [DEFAULT_LLAMA])
    if name.startswith(HUB):
        path = _hub_folder(name.removeprefix(HUB))
    else:
        path = fetch(SMOLLM2_135M) if name == DEFAULT_LLAMA else Path(name).expanduser()
    if path.is_file() and path.suffix != ".gguf":
        refuse_pointer(path)
        raise UserError(f"{path}: a model file must be .gguf; for other formats name the folder.")
    with located(path):
        return _open(path)


def _open(path: Path) -> WeightSource:
    if path.is_file():
        return _open_gguf([path])
    if (path / "config.json").is_file():
        return open_huggingface(path)
    if (path / "params.json").is_file():
        return open_meta(path)
    return _open_gguf(sorted(path.glob("*.gguf")), path)


def _open_gguf(files: Sequence[Path], folder: Path | None = None) -> WeightSource:
    # Imported here: the library of the format takes a tenth of a second.
    from mm_adapter.llama.checkpoints.gguf import open_gguf
    from mm_adapter.llama.checkpoints.gguf_file import are_parts

    if len(files) == 1 or (files and are_parts(files)):
        return open_gguf(files[0])
    raise UserError(f"{folder}: no config.json (Hugging Face), params.json (Meta) or single .gguf file in this folder.")


def _hub_folder(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except Exception as error:  # network, authorisation and naming errors of the library, all for the user
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{name}: cannot be fetched from the hub ({reason}). Download it and name the folder."
        ) from error


def check_tokenizer(name: str, source: WeightSource) -> Tokenizer | None:
    """Return the tokenizer of an opened model.

    A vocabulary somewhat smaller than the embedding is the usual padding of its rows to a round number.

    Raises:
        UserError: its size says that it belongs to another model.
    """
    tokenizer, rows = source.tokenizer(), source.config.vocab_size
    if tokenizer is not None and not 0 <= rows - tokenizer.vocab_size <= _PADDING:
        raise UserError(
            f"{name}: the tokenizer has {tokenizer.vocab_size} tokens, the embedding {rows}; "
            "they do not belong together."
        )
    return tokenizer


def check_tensors(name: str, source: WeightSource) -> dict[str, StoredTensor]:
    """Return the tensors of an opened model by canonical name, none of them read.

    Raises:
        UserError: one is missing, surplus, misshapen, or there twice.
    """
    stored: dict[str, StoredTensor] = {}
    for key, tensor in source.tensors():
        if key in stored:
            raise UserError(f"{name}: the tensor {key} is there twice; shards of different models?")
        stored[key] = tensor
    if source.config.num_layers > len(stored):
        layers = source.config.num_layers
        raise UserError(f"{name}: {layers} layers by the configuration, but there are {len(stored)} tensors in all.")
    with torch.device("meta"):
        model = Llama(source.config)
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    problems = [f"missing {key}" for key in wanted if key not in stored]
    problems += [f"surplus {key}" for key in stored if key not in wanted]
    problems += [
        f"{key} has shape {stored[key].shape}, expected {shape}"
        for key, shape in wanted.items()
        if key in stored and stored[key].shape != shape
    ]
    if problems:
        rest = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UserError(f"{name}: the weights do not fit the configuration: {'; '.join(problems[:5])}{rest}.")
    return stored


_FINE = ("embedding", "head")  # every token's meaning, and small errors are every answer's: never below 8 bits by us


def check_quantization(quantization: str) -> None:
    """Refuse a name that is not known.

    Raises:
        UserError: with the nearest known name.
    """
    if quantization not in QUANTIZATIONS:
        nearest = suggestion(quantization, QUANTIZATIONS)
        raise UserError(f"quantization {quantization!r} is not known{nearest}; {', '.join(QUANTIZATIONS)} are.")


def quantized(name: str, stored: StoredTensor, quantization: str) -> tuple[Matrix, bytes] | None:
    """Return a stored tensor as a frozen matrix and the digest of its stored values; None where it stays as it is.

    Quantised are matrices, so all but norms and biases. With int4 the embedding and the head are kept in 8 bits, and so
    is a matrix whose rows do not divide into groups. Rows are read and quantised some at a time.

    Args:
        name: canonical, without ``.weight``.
        quantization: none, int8, int4 or blocks.

    Raises:
        UserError: the library is missing, or blocks are asked of a file that has none.
    """
    if quantization == "none" or len(stored.shape) != 2:
        return None
    shape = (stored.shape[0], stored.shape[1])
    if quantization == "blocks":
        if stored.blocks is None:
            raise UserError(
                "quantization blocks is of GGUF files; this model is in another format, where int8 and int4 are."
            )
        return stored.blocks(), stored.digest()
    fine = quantization == "int8" or name in _FINE or shape[1] % GROUP
    sampler = Sampler(shape)
    kind: type[Int8Matrix | Int4Matrix] = Int8Matrix if fine else Int4Matrix
    return kind.quantize(shape, stored.sampled(sampler)), sampler.digest()
