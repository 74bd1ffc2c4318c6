"""Where an answer looks: the attention of the position that it is predicted from to the adaption prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mm_adapter.adapter import Adapter
from mm_adapter.adapter.prompt_recorder import recorders
from mm_adapter.llama.model import Llama, Prefixes
from mm_adapter.vision import ImageTower
from mm_adapter.vision.places import ViewMap, view_maps


@dataclass(frozen=True)
class PromptLook:
    """Attention of one position to the prompts of L layers.

    Attributes:
        first_layer: of the model, counted from 0, that is adapted.
        ratios: ``(L,)`` float32, norm of what the prompts add over the norm of the attention to the text.
        prompts: ``(L, K)`` float32, mean over heads of ``|tanh(g)|`` times the softmax over the prompts.
        pieces: ``(L, P)`` float32, the same of the pieces of a picture, where they are prompts of their own; else None.
        picture: the same over the picture, where the prompts have places; empty where they have none.
    """

    first_layer: int
    ratios: Tensor
    prompts: Tensor
    pieces: Tensor | None
    picture: Sequence[ViewMap] = ()


@torch.no_grad()
def look_at_prompts(llama: Llama, first_layer: int, prefixes: Prefixes, ids: Sequence[int]) -> PromptLook:
    """Return the attention of the last of ``ids``, from which the next token is predicted, to the prompts.

    Args:
        llama: the decoder that the prefixes are for.
        first_layer: that is adapted.
        prefixes: of one sample, gated in every adapted layer.
    """
    seen = recorders(prefixes)
    tokens = torch.tensor([list(ids)], device=llama.device)
    positions = torch.arange(tokens.shape[1], device=llama.device)
    below = [None] * first_layer
    llama.run_layers(llama.embedding(tokens), positions, None, [*below, *seen])
    pieces = torch.stack([layer.gated_pieces[-1] for layer in seen]) if len(seen[0].gated_pieces) else None
    ratios = torch.stack([layer.ratios[-1] for layer in seen])
    return PromptLook(first_layer, ratios, torch.stack([layer.gated[-1] for layer in seen]), pieces)


@torch.no_grad()
def look_at_picture(
    look: PromptLook, adapter: Adapter, tower: ImageTower, features: Tensor, size: tuple[int, int]
) -> list[ViewMap]:
    """Return where on its picture an answer looked, where the adapter's prompts have places.

    Of ``tiles`` each tile has what its pieces have together, all layers added up. Of ``query`` a token has how the
    learned queries look at it, each query weighed by how the answer looks at its prompt.

    Args:
        look: of the answer.
        features: ``(1, F)`` or ``(1, T, E)`` of the picture.
        size: its width and height.

    Returns:
        Maps whose shares add up to 1 at most; none where prompts have no place or nothing is looked at.
    """
    if adapter.visual_query is not None:
        of_prompts = look.prompts.sum(dim=0)  # (K,)
        shares = of_prompts @ adapter.visual_query.looks(features.to(adapter.prompts.dtype))[0].cpu()  # (T,)
    elif look.pieces is not None:
        shares = look.pieces.sum(dim=0)  # (P,)
    else:
        return []
    total = float(shares.sum())
    return view_maps(tower, shares / total, size) if total > 0 else []
