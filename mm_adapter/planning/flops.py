"""Floating-point operations of a pass: two for each multiplication with addition of a matrix product, none else.

As PyTorch's counter counts them: attention in full whatever a mask hides, and five products on the way back of a fused
one, which computes its scores again.
"""

import math
from dataclasses import dataclass

from mm_adapter.planning.activations import Sizes
from mm_adapter.planning.image_costs import visual_costs
from mm_adapter.planning.shapes import layer_matrices


@dataclass(frozen=True)
class Work:
    """Operations of one pass.

    Attributes:
        lower: of the layers below the first adapted one; none of them where their outcome is kept.
        forward: of the rest, head included.
        backward: of the gradients.
        again: of layers computed a second time, where they are checkpointed.
    """

    lower: int
    forward: int
    backward: int
    again: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.lower + self.forward + self.backward + self.again

    @property
    def with_states(self) -> int:
        """Operations where the outcome of the lower layers is kept."""
        return self.total - self.lower


def count_work(sizes: Sizes) -> Work:
    """Return the operations of a pass.

    A frozen matrix needs no gradient, so the way back through it costs what the way there did; a trained one costs
    twice that. Below the first adapted layer there is no way back.
    """
    base, method = sizes.base, sizes.config.method
    shapes = {name: math.prod(shape) for name, shape in layer_matrices(base).items()}
    into_attention = sum(shapes[f"attention.{name}"] for name in ("query", "key", "value"))
    after = sum(shapes.values()) - into_attention
    lower = sizes.first_layer * (2 * sizes.tokens * sum(shapes.values()) + 4 * sizes.load.pairs * sizes.queries)
    forward = backward = again = 0
    for index in range(sizes.first_layer, base.num_layers):
        first = index == sizes.first_layer
        rows = sizes.load.predicting_tokens if index == base.num_layers - 1 else sizes.tokens
        entering, leaving = 2 * sizes.tokens * into_attention, 2 * rows * after
        there, back = _text_attention(sizes, first)
        to_prompts, from_prompts = _prompt_attention(sizes, first)
        forward += entering + leaving + there + to_prompts
        again += entering + leaving + there + to_prompts
        if method == "full":
            backward += 2 * (entering + leaving)
        else:
            backward += leaving + (0 if first else entering)
        backward += back + from_prompts
    updates = _low_rank(sizes)
    prefixes = _prefixes(sizes)
    head = 2 * sizes.load.predicting_tokens * base.hidden_size * base.vocab_size
    forward += updates[0] + prefixes[0] + head
    backward += updates[1] + prefixes[1] + head * (2 if method == "full" else 1)
    return Work(lower, forward, backward, again + updates[0] if sizes.config.gradient_checkpointing else 0)


def _text_attention(sizes: Sizes, first: bool) -> tuple[int, int]:
    """Return the operations there and back of attention among the text, and to prompts that are joined to it."""
    pairs = sizes.load.pairs
    if sizes.joined:
        pairs += sizes.tokens * sizes.prompts
    product = 2 * pairs * sizes.queries
    if first and sizes.config.method == "adapter" and not sizes.joined:
        return 2 * product, 0
    if sizes.fused:
        return 2 * product, 5 * product
    # Unfused, what has no graph costs nothing: the first layer's keys (lora), its queries (joined prompts).
    without = first and sizes.config.method != "full"
    return 2 * product, (3 if without else 4) * product


def _prompt_attention(sizes: Sizes, first: bool) -> tuple[int, int]:
    """Return the operations there and back of the gated attention to prompts."""
    if not sizes.prompts or sizes.joined:
        return 0, 0
    looked_at = sizes.prompts + (len(sizes.tower.pieces) if sizes.image_prompts == "tiles" else 0)
    product = 2 * sizes.tokens * looked_at * sizes.queries
    return 2 * product, (5 if sizes.fused else 3 if first else 4) * product


def _prefixes(sizes: Sizes) -> tuple[int, int]:
    """Return the operations there and back of making prefixes: keys and values of prompts and of pictures' vectors."""
    if not sizes.prompts:
        return 0, 0
    pictures = sizes.load.questions if sizes.pictures else 0
    if sizes.image_prompts == "query":
        rows = 2 * pictures * sizes.prompts
    elif sizes.image_prompts == "tiles":
        rows = 2 * (sizes.prompts + pictures * len(sizes.tower.pieces))
    else:
        rows = 2 * sizes.prompts + pictures + (pictures if sizes.joined else 0)
    projected = 2 * sizes.config.layers * rows * sizes.base.hidden_size * sizes.keys
    visual = visual_costs(sizes.config, sizes.base.hidden_size, sizes.tower, pictures)
    return projected + visual.there, projected + visual.back


def _low_rank(sizes: Sizes) -> tuple[int, int]:
    """Return the operations there and back of low-rank updates of the query and value matrices."""
    if sizes.config.method != "lora":
        return 0, 0
    base, rank = sizes.base, sizes.config.lora_rank
    inside = 2 * 2 * sizes.tokens * base.hidden_size * rank  # the two that narrow
    outside = 2 * sizes.tokens * rank * (sizes.queries + sizes.keys)
    there = base.num_layers * (inside + outside)
    return there, 2 * there - inside  # what enters the first layer has no gradient
