"""What is planned to be kept for gradients is what autograd keeps."""

import pytest
import torch
from planning_cases import Case
from torch import Tensor

from mm_adapter.planning.activations import head_memory, layer_memory, prefix_memory, rotation_memory


def kept_bytes(case: Case) -> int:
    """Return the bytes of all tensors that a pass saves, each storage once, the model's own weights left out."""
    model = case.model
    own = [*model.llama.parameters(), *(model.trained.parameters() if model.trained is not None else ())]
    known = {weight.untyped_storage().data_ptr() for weight in own}
    saved: dict[int, tuple[int, Tensor]] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved.setdefault(storage.data_ptr(), (storage.nbytes(), tensor))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = case.task.losses(range(len(case.examples.questions)), None).sum()
    assert loss.requires_grad
    return sum(size for pointer, (size, _) in saved.items() if pointer not in known)


def test_kept_activations_are_those_of_autograd(case: Case) -> None:
    """Layers, head and prefixes together, in every way of training: within one per cent.

    The rest are indices, of which a real model has a smaller share than these tiny ones.
    """
    sizes = case.sizes
    layers = range(sizes.first_layer, sizes.base.num_layers)
    planned = sum(layer_memory(sizes, index).kept for index in layers)
    planned += head_memory(sizes)[0] + prefix_memory(sizes)
    if len(layers) > 1 or sizes.config.method != "adapter":  # a single adapted layer's input has no graph
        planned += rotation_memory(sizes)
    assert planned == pytest.approx(kept_bytes(case), rel=0.01)
