"""How much the prompts add to each layer's attention, by kind of token, and which prompts are looked at."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mm_adapter.adapter.prompt_recorder import recorders
from mm_adapter.data.token_kinds import KINDS, token_kinds
from mm_adapter.eval.probes.findings import Section
from mm_adapter.model import MultimodalLlama
from mm_adapter.scoring.batching import token_batches
from mm_adapter.scoring.encoded_sets import QuestionSet
from mm_adapter.scoring.likelihoods import score_options

PICTURE = "attention.png"


@dataclass(frozen=True)
class PromptAttention:
    """What the prompts add, averaged over a sample of questions.

    Attributes:
        questions: of the sample.
        first_layer: of the model, counted from 0, that is adapted.
        kinds: of tokens that occur, as in ``mm_adapter.data.token_kinds``.
        ratios: ``(L, kinds)`` float32: norm of ``tanh(g) * attention to prompts`` over the norm of the attention to the
            text, all heads of a token together, mean over tokens.
        weights: ``(L, K)`` float32: share of each prompt in the softmax over prompts, mean over heads and tokens.
        piece_weights: ``(L, P)`` float32: the same of the pieces of a picture, over the tokens of questions with one;
            None where they are no prompts of their own.
    """

    questions: int
    first_layer: int
    kinds: tuple[str, ...]
    ratios: Tensor
    weights: Tensor
    piece_weights: Tensor | None = None

    def section(self) -> Section:
        """Return the part of the report."""
        rows = [["layer", *self.kinds, "largest prompt"]]
        for layer, (ratios, weights) in enumerate(zip(self.ratios, self.weights, strict=True), start=self.first_layer):
            rows.append([str(layer), *(f"{ratio:.4f}" for ratio in ratios.tolist()), f"{weights.max():.3f}"])
        text = (
            f"Norm of the gated attention to the prompts over that of the attention to the text, by kind of token, on "
            f"{self.questions} questions; and the largest share of one of {self.weights.shape[1]} prompts in the "
            f"softmax over them (even: {1 / self.weights.shape[1]:.3f}). A picture's part is in the former."
        )
        figures = {
            "questions": self.questions,
            "first_layer": self.first_layer,
            "kinds": list(self.kinds),
            "ratios": self.ratios.tolist(),
            "prompt_weights": self.weights.tolist(),
        }
        if self.piece_weights is not None:
            figures["piece_weights"] = self.piece_weights.tolist()
            means = ", ".join(f"{share:.3f}" for share in self.piece_weights.mean(dim=0).tolist())
            text += f" Of the pieces of a picture, mean over layers: {means}."
        return Section("Attention to the prompts", text, rows, PICTURE, figures)


@torch.no_grad()
def prompt_attention(model: MultimodalLlama, examples: QuestionSet, token_budget: int = 4096) -> PromptAttention:
    """Measure what the prompts add in each adapted layer (LLaMA-Adapter, arXiv 2303.16199, section 3.2).

    Args:
        model: with a zero-init adapter.
        examples: the sample, with image features where the adapter takes pictures.
        token_budget: tokens of a pass.

    Raises:
        ValueError: the model has no gated adapter.
    """
    if model.adapter is None or model.adapter.gates is None:
        raise ValueError("attention to prompts is measured on gated adapters")
    adapter, device = model.adapter, model.llama.device
    layers, kinds = adapter.config.layers, len(KINDS)
    sums, counts = torch.zeros(layers, kinds), torch.zeros(kinds)
    weights = torch.zeros(layers, adapter.config.prompt_length)
    piece_weights, seeing = torch.zeros(layers, len(adapter.config.image_pieces)), 0
    for indices in token_batches(examples.lengths, token_budget):
        batch, features, has_image = examples.batch(indices, with_tail=False)
        features = None if features is None else features.to(device)
        has_image = None if has_image is None else has_image.to(device)
        layers_seen = recorders(model.prefixes(features, has_image) or ())
        below = [None] * adapter.first_layer
        score_options(model.llama, batch.to(device), [*below, *layers_seen], None, adapter.first_layer)
        members = [examples.questions[index] for index in indices]
        named = [kind for member in members for kind in token_kinds(member, model.template, model.tokenizer)]
        place = torch.tensor([KINDS.index(kind) for kind in named])
        pictured = torch.tensor([member.image is not None for member in members])
        seen = pictured[batch.packing.segment_ids]  # (N,)
        counts += place.bincount(minlength=kinds)
        for layer, recorder in enumerate(layers_seen):
            sums[layer].index_add_(0, place, recorder.ratios)
            weights[layer] += recorder.weights.sum(dim=0)
            if len(recorder.piece_weights):
                piece_weights[layer] += recorder.piece_weights[seen].sum(dim=0)
        seeing += int(seen.sum())
    found = counts > 0
    return PromptAttention(
        questions=len(examples.questions),
        first_layer=adapter.first_layer,
        kinds=tuple(kind for kind, occurs in zip(KINDS, found.tolist(), strict=True) if occurs),
        ratios=sums[:, found] / counts[found],
        weights=weights / counts.sum(),
        piece_weights=piece_weights / seeing if seeing and adapter.places is not None else None,
    )
