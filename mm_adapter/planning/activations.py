"""What one forward pass keeps for its gradients, layer by layer: the shapes are those that the decoder's code saves."""

from dataclasses import dataclass

from mm_adapter.llama.config import LlamaConfig
from mm_adapter.planning.image_costs import TowerShape, visual_costs
from mm_adapter.planning.workload import Workload
from mm_adapter.training.config import TrainingConfig

SINGLE = 4  # bytes of float32


@dataclass(frozen=True)
class LayerMemory:
    """Bytes of one decoder layer with a graph.

    Attributes:
        entering: its input, all that is kept of it where layers are checkpointed.
        attention: kept of norm and attention, the input included.
        mlp: kept of norm and feed-forward network.
        attention_work: alive beyond that while the gradients of the attention are computed.
        mlp_work: the same of the feed-forward network.
    """

    entering: int
    attention: int
    mlp: int
    attention_work: int
    mlp_work: int

    @property
    def kept(self) -> int:
        """All that the layer keeps without checkpointing."""
        return self.attention + self.mlp


@dataclass(frozen=True)
class Sizes:
    """The widths that the formulas are made of.

    Attributes:
        tokens: N; ``rows`` in the last layer's feed-forward network are the predicting ones, U.
        queries, keys: widths of all query and all key heads.
        element: bytes of a value of the residual stream.
        fused: attention keeps no scores. Unfused are half precision on the CPU, by our own code, and, counted on the
            safe side, grouped queries under a mask on CUDA.
    """

    base: LlamaConfig
    config: TrainingConfig
    load: Workload
    device: str
    tower: TowerShape

    @property
    def pictures(self) -> bool:
        """Whether questions have pictures."""
        return self.tower.features > 0

    @property
    def image_prompts(self) -> str:
        """How pictures become prompts; ``shared`` without pictures."""
        return self.config.image_prompts if self.pictures else "shared"

    @property
    def tokens(self) -> int:
        return self.load.tokens

    @property
    def queries(self) -> int:
        return self.base.num_heads * self.base.head_dim

    @property
    def keys(self) -> int:
        return self.base.num_kv_heads * self.base.head_dim

    @property
    def element(self) -> int:
        return SINGLE if self.config.dtype == "float32" else 2

    @property
    def fused(self) -> bool:
        grouped = self.base.num_heads != self.base.num_kv_heads
        return self.element == SINGLE if self.device == "cpu" else not grouped

    @property
    def first_layer(self) -> int:
        """The lowest layer with a graph."""
        return self.base.num_layers - self.config.layers if self.config.method == "adapter" else 0

    @property
    def prompts(self) -> int:
        """Prompt tokens of a layer, K; 0 without an adapter."""
        return self.config.prompt_length if self.config.method == "adapter" else 0

    @property
    def joined(self) -> bool:
        """Whether prompts stand among the keys of the text."""
        return self.config.method == "adapter" and self.config.attention == "random-init"


def layer_memory(sizes: Sizes, index: int) -> LayerMemory:
    """Return the bytes of decoder layer ``index``, which has a graph.

    The input of the first adapted layer has none: its norm keeps nothing, and the text's attention neither, unless
    prompts are among its keys. The last layer's feed-forward network sees the predicting positions alone.
    """
    base, element, method = sizes.base, sizes.element, sizes.config.method
    first, last = index == sizes.first_layer, index == base.num_layers - 1
    rows = sizes.load.predicting_tokens if last else sizes.tokens
    entering = sizes.tokens * base.hidden_size * element
    attention = 0
    if not first or method == "full":
        attention += entering + sizes.tokens * SINGLE
    attention += _attention(sizes, first)
    if method == "lora":  # in float32: what enters the two low-rank products, each its own copy, and what is between
        copies = 1 if element == SINGLE else 2
        attention += sizes.tokens * (copies * base.hidden_size + 2 * sizes.config.lora_rank) * SINGLE
    if method == "full":  # what the query, key and value matrices and the output matrix are multiplied with
        attention += entering + rows * sizes.queries * element
    mlp = rows * (base.hidden_size + 2 * base.intermediate_size) * element + rows * SINGLE
    if method == "full":
        mlp += rows * (base.hidden_size + base.intermediate_size) * element
    mlp_work = rows * (4 * base.intermediate_size + 2 * base.hidden_size) * element
    return LayerMemory(entering if not first else 0, attention, mlp, _attention_work(sizes), mlp_work)


def _attention(sizes: Sizes, first: bool) -> int:
    """Return what attention to text and prompts keeps."""
    tokens, queries, keys, element = sizes.tokens, sizes.queries, sizes.keys, sizes.element
    heads, load, method = sizes.base.num_heads, sizes.load, sizes.config.method
    pairs = load.pairs + (load.tokens * sizes.prompts if sizes.joined else 0)
    kept = 0
    if not first or sizes.joined or method != "adapter":
        # Keys and values of prompts lie before those of each question where they are joined.
        key_rows = tokens + (load.questions * sizes.prompts if sizes.joined else 0)
        kept += (tokens * queries + 2 * key_rows * keys) * element
        if sizes.fused:
            kept += tokens * (queries * element + heads * SINGLE) + pairs * element
        else:
            kept += pairs * (heads * (SINGLE + element) + 1)
            if first and method == "lora":  # keys without a graph: queries are kept for no gradient
                kept -= tokens * queries * element
    # Spreading packed rows into padded ones, which the CPU does not, keeps the rows that have a graph.
    if sizes.device != "cpu" and (not first or method == "full"):
        kept += tokens * (queries + 2 * keys) * element
    elif sizes.device != "cpu" and method == "lora":
        kept += tokens * (queries + keys) * element
    if sizes.prompts and not sizes.joined:
        own = tokens * queries * element
        kept += own  # the outcome, which the gate is multiplied with
        # Queries by question and, where fused, the outcome before it is packed again. On the CPU, fused, the queries by
        # question are those of all, which are kept once, and already where they have a graph.
        together = sizes.fused and sizes.device == "cpu"
        by_question = own * (1 if together or not sizes.fused else 2)
        if sizes.image_prompts == "query":
            kept += by_question + (own if together and first else 0)
            kept += tokens * heads * (SINGLE if sizes.fused else sizes.prompts * (SINGLE + element))
        elif sizes.fused:
            # The queries are kept already where they have a graph.
            shifted = sizes.pictures and sizes.image_prompts == "shared"
            kept += tokens * heads * SINGLE + (own if first else 0) + (own if shifted else 0)
        else:
            kept += own + tokens * heads * sizes.prompts * (SINGLE + element)
        if sizes.image_prompts == "tiles":
            kept += own + by_question
            kept += tokens * heads * (SINGLE if sizes.fused else len(sizes.tower.pieces) * (SINGLE + element))
    return kept


def _attention_work(sizes: Sizes) -> int:
    tokens, queries, keys, element = sizes.tokens, sizes.queries, sizes.keys, sizes.element
    rows = tokens * (3 * queries + 2 * keys + 2 * sizes.base.hidden_size) * element
    if sizes.fused:
        return rows
    # At the softmax its gradient and that of the scores, in float32; the weights' copy in half precision is gone.
    return rows + sizes.load.pairs * sizes.base.num_heads * (2 * SINGLE - element)


def head_memory(sizes: Sizes) -> tuple[int, int]:
    """Return what the final norm and the logits keep, and what is alive beyond that as their gradients begin."""
    rows, hidden, element = sizes.load.predicting_tokens, sizes.base.hidden_size, sizes.element
    logits = rows * sizes.base.vocab_size * element
    normed = rows * hidden * element
    kept = logits + normed + 2 * rows * SINGLE + (normed if sizes.config.method == "full" else 0)
    # On the CPU a product in half precision works on a copy of the weights, packed for it (oneDNN).
    packed = hidden * sizes.base.vocab_size * element if sizes.device == "cpu" and element != SINGLE else 0
    return kept, logits + 2 * normed + packed


def prefix_memory(sizes: Sizes) -> int:
    """Return the bytes of prompt keys and values of all layers, and of what the visual projection keeps."""
    if sizes.config.method != "adapter":
        return 0
    config, pictures = sizes.config, sizes.load.questions if sizes.pictures else 0
    rows = {
        "shared": 2 * config.prompt_length + pictures,
        "tiles": 2 * (config.prompt_length + pictures * len(sizes.tower.pieces)),
        "query": 2 * config.prompt_length * pictures,
    }[sizes.image_prompts]
    made = visual_costs(config, sizes.base.hidden_size, sizes.tower, pictures).kept
    return config.layers * rows * sizes.keys * sizes.element + made


def rotation_memory(sizes: Sizes) -> int:
    """Return the bytes of the tables of the rotary embedding, which all layers share."""
    return sizes.tokens * sizes.base.head_dim * sizes.element


def lower_work(sizes: Sizes, tokens: int) -> int:
    """Return what is alive in a layer without a graph: input, stream after attention, norms, gate, up, product."""
    return tokens * (4 * sizes.base.hidden_size + 3 * sizes.base.intermediate_size) * sizes.element
