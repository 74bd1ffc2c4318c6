"""A random model and random questions of given sizes: what a plan is held against."""

from pathlib import Path

import torch

from data.encoding import EncodedQuestion
from data.question import Question
from mm_adapter.examples import ExampleSet
from mm_adapter.llama.config import LlamaConfig
from mm_adapter.llama.model import Llama
from mm_adapter.llama.weights import LoadedLlama


def random_llama(
    shape: LlamaConfig, dtype: torch.dtype, device: str | torch.device = "cpu", seed: int = 0
) -> LoadedLlama:
    """Return a frozen model of random weights, made on the device in the dtype, without a tokenizer."""
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
    return LoadedLlama(model.requires_grad_(False).eval(), None, "random", "random")


def random_questions(
    count: int, tokens: int, predicting: int, vocabulary: int, image_size: int = 0, seed: int = 0
) -> ExampleSet:
    """Return questions of two options that are ``tokens`` long as packed, and predict from ``predicting`` positions.

    Args:
        image_size: width of the random image features that each question has; 0 for none.
    """
    generator = torch.Generator().manual_seed(seed)
    pictures = [Path(f"{number}.png") if image_size else None for number in range(count)]
    features = {path: torch.randn(image_size, generator=generator) for path in pictures if path is not None}
    first = max(1, (predicting + 1) // 2)
    ends = (tokens - predicting - 1, tokens - predicting - 1 + first)
    encoded = []
    for number in range(count):
        ids = torch.randint(vocabulary, (tokens,), generator=generator).tolist()
        question = Question(str(number), "random", ("first", "second"), number % 2, image=pictures[number])
        options = (tuple(ids[ends[0] : ends[1]]), tuple(ids[ends[1] :]))
        encoded.append(EncodedQuestion(question, tuple(ids[: ends[0]]), options, ()))
    return ExampleSet(encoded, features)
