"""A random model and random questions of given sizes: what a plan is held against."""

from pathlib import Path

import torch

from mm_adapter.data.encoding import EncodedQuestion
from mm_adapter.data.question import Question
from mm_adapter.llama.checkpoints.load import LoadedLlama, quantized
from mm_adapter.llama.checkpoints.source import StoredTensor
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.llama.frozen.matrix import place_matrices
from mm_adapter.llama.frozen.offload import offload_layers
from mm_adapter.llama.model import Llama
from mm_adapter.planning.image_costs import NO_TOWER, TowerShape
from mm_adapter.scoring.encoded_sets import QuestionSet


def random_llama(
    shape: LlamaConfig,
    dtype: torch.dtype,
    device: str | torch.device = "cpu",
    seed: int = 0,
    quantization: str = "none",
    offload: bool = False,
) -> LoadedLlama:
    """Return a frozen model of random weights, made on the device in the dtype, without a tokenizer.

    Args:
        quantization: none, int8 or int4; quantised matrices are made in the host's memory, rows at a time.
        offload: leave the layers in the host's memory, where they are made then.

    Raises:
        UserError: the quantisation is of files alone, or its library is missing.
    """
    if quantization != "none":
        model = _random_quantized(shape, dtype, seed, quantization)
    else:
        model = _random_dense(shape, dtype, "cpu" if offload else device, seed)
    model.requires_grad_(False).eval()
    if offload:
        offload_layers(model, torch.device(device))
    return LoadedLlama(model.to(device), None, "random", "random")


def _random_dense(shape: LlamaConfig, dtype: torch.dtype, device: str | torch.device, seed: int) -> Llama:
    with torch.device("meta"):
        model = Llama(shape)
    frequencies = model.frequencies.clone()
    model = model.to(dtype).to_empty(device=device)
    model.frequencies = frequencies.to(device)
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.fill_(1.0)
            else:
                weight.normal_(std=shape.hidden_size**-0.5, generator=generator)
    return model


def _random_quantized(shape: LlamaConfig, dtype: torch.dtype, seed: int, quantization: str) -> Llama:
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        model = Llama(shape)
    frequencies = model.frequencies.clone()
    matrices, vectors = {}, {}
    for name, weight in model.state_dict().items():
        if weight.dim() != 2:
            vectors[name] = torch.ones(weight.shape, dtype=dtype)
            continue
        columns, spread = weight.shape[1], shape.hidden_size**-0.5

        def read(first: int, last: int, columns: int = columns, spread: float = spread) -> torch.Tensor:
            return torch.randn(last - first, columns, generator=generator) * spread

        module = name.removesuffix(".weight")
        found = quantized(module, StoredTensor(tuple(weight.shape), "random", read), quantization)
        assert found is not None
        matrices[module] = found[0]
    place_matrices(model, matrices, dtype)
    model.load_state_dict(vectors, assign=True)
    model.frequencies = frequencies
    return model


def random_questions(
    count: int, tokens: int, predicting: int, vocabulary: int, tower: TowerShape = NO_TOWER, seed: int = 0
) -> QuestionSet:
    """Return questions of two options that are ``tokens`` long as packed, and predict from ``predicting`` positions.

    Args:
        tower: of the random image features that each question has; without features for none.
    """
    generator = torch.Generator().manual_seed(seed)
    pictures = [Path(f"{number}.png") if tower.features else None for number in range(count)]
    shape = (tower.tokens, tower.features) if tower.tokens else (tower.features,)
    features = {path: torch.randn(shape, generator=generator) for path in pictures if path is not None}
    first = max(1, (predicting + 1) // 2)
    ends = (tokens - predicting - 1, tokens - predicting - 1 + first)
    encoded = []
    for number in range(count):
        ids = torch.randint(vocabulary, (tokens,), generator=generator).tolist()
        question = Question(str(number), "random", ("first", "second"), number % 2, image=pictures[number])
        options = (tuple(ids[ends[0] : ends[1]]), tuple(ids[ends[1] :]))
        encoded.append(EncodedQuestion(question, tuple(ids[: ends[0]]), options, ()))
    return QuestionSet(encoded, features)
