"""``mm-adapter generate``: what a model writes on prompts, one as it comes or many in batches."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.data.encoding import encode_request
from mm_adapter.data.prompt_file import PromptRecord
from mm_adapter.inference.generation import GenerationConfig, GenerationResult, stream_tokens
from mm_adapter.llama.tokenizers.tokenizer import TextStream, stream_texts
from mm_adapter.scoring.likelihoods import AdaptedModel


def generate(
    model: AdaptedModel,
    prompts: Sequence[PromptRecord],
    config: GenerationConfig | None = None,
    raw: bool = False,
    batch_size: int = 8,
) -> Iterator[GenerationResult]:
    """Write on every prompt, in batches; the texts come in the prompts' order.

    Args:
        model: see ``MultimodalLlama.from_pretrained``.
        prompts: with their pictures.
        config: how text is generated.
        raw: continue prompts as they stand, instead of putting them as requests in the model's template.
        batch_size: prompts that are written on at a time; draws depend on it, the most likely tokens do not.

    Raises:
        UserError: a prompt is too long, or a picture cannot be read or is not wanted; nothing is written then.
    """
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; it must be at least 1.")
    config = config or GenerationConfig()
    encoded = [encode_prompt(model, prompt, raw) for prompt in prompts]
    features = _features(model, prompts)
    return _write(model, prompts, encoded, features, config, batch_size)


def stream(
    model: AdaptedModel, prompt: PromptRecord, config: GenerationConfig | None = None, raw: bool = False
) -> Iterator[str]:
    """Write on one prompt; yield the text piece by piece as it comes. Arguments and errors as in ``generate``."""
    config = config or GenerationConfig()
    encoded = [encode_prompt(model, prompt, raw)]
    steps = _steps(model, [prompt], encoded, _features(model, [prompt]), config, config.generator(model.llama.device))
    return (new for (new,) in stream_texts(steps, [TextStream(model.tokenizer, config.stop_strings)]) if new)


def encode_prompt(model: AdaptedModel, prompt: PromptRecord, raw: bool) -> list[int]:
    """Return the ids that a prompt is put as.

    Raises:
        UserError: they leave no room in the model's context, or there are none.
    """
    if raw:
        ids = [*model.tokenizer.begin, *model.tokenizer.encode(prompt.request.text)]
    else:
        ids = encode_request(prompt.request, model.conversation_template, model.tokenizer)
    context = model.llama.config.context_length
    if not ids:
        raise UserError(f"{prompt.place}: an empty prompt cannot be continued; give some text.")
    if len(ids) >= context:
        raise UserError(f"{prompt.place}: it has {len(ids)} tokens, the model's context is {context}. Shorten it.")
    return ids


def _features(model: AdaptedModel, prompts: Sequence[PromptRecord]) -> dict[Path, Tensor]:
    """Return ``(1, F)`` of every picture, each looked at once."""
    images = dict.fromkeys(prompt.image for prompt in prompts if prompt.image is not None)
    return {image: model.image_features(image) for image in images}


def _write(
    model: AdaptedModel,
    prompts: Sequence[PromptRecord],
    encoded: Sequence[list[int]],
    features: dict[Path, Tensor],
    config: GenerationConfig,
    batch_size: int,
) -> Iterator[GenerationResult]:
    generator = config.generator(model.llama.device)
    context = model.llama.config.context_length
    for start in range(0, len(prompts), batch_size):
        batch, ids = prompts[start : start + batch_size], encoded[start : start + batch_size]
        texts = [TextStream(model.tokenizer, config.stop_strings) for _ in batch]
        for _ in stream_texts(_steps(model, batch, ids, features, config, generator), texts):
            pass
        for text, prompt in zip(texts, ids, strict=True):
            limit = min(config.max_new_tokens, context - len(prompt))
            yield GenerationResult(text.text, len(text.ids), text.stopped or len(text.ids) < limit)


def _steps(
    model: AdaptedModel,
    batch: Sequence[PromptRecord],
    ids: Sequence[list[int]],
    features: dict[Path, Tensor],
    config: GenerationConfig,
    generator: torch.Generator | None,
) -> Iterator[list[int | None]]:
    seen = has_image = None
    if any(prompt.image is not None for prompt in batch):
        blank = torch.zeros_like(next(iter(features.values())))
        seen = torch.cat([blank if prompt.image is None else features[prompt.image] for prompt in batch])
        has_image = torch.tensor([prompt.image is not None for prompt in batch], device=seen.device)
    with torch.no_grad():
        prefixes = model.prefixes(seen, has_image)
    limit, ends = config.max_new_tokens, model.end_tokens
    return stream_tokens(model.llama, ids, ends, prefixes, limit, config.sampling, generator)
