"""Agreement with recorded outputs of the original V1 training model."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mm_adapter.adapter.formats.official import QUERY, gate_name, read_official
from mm_adapter.core.errors import UserError
from mm_adapter.llama.checkpoints.load import load_llama


def official_errors(folder: Path) -> dict[str, float]:
    """Return the largest absolute error of logits, loss and every recorded gradient, by name.

    Args:
        folder: params.json and consolidated.00.pth (the base), adapter.pth, expected.safetensors (inputs and outputs).

    Raises:
        UserError: a file or tensor is missing or damaged.
    """
    expected = _read_expected(folder / "expected.safetensors")
    model = load_llama(str(folder)).model
    gates = sorted(name for name in expected if name.startswith("grad.layers."))
    adapter = read_official(folder / "adapter.pth", model.config, len(_adapted(gates, expected)))
    tokens, labels = expected["tokens"].long(), expected["labels"].long()
    logits = model(tokens, prefixes=adapter.prefixes(model))[:, :-1]
    # Label 0 is the original's padding; positions predict the label of the next one.
    loss = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=0)
    loss.backward()
    assert adapter.gates is not None
    assert adapter.gates.grad is not None
    assert adapter.prompts.grad is not None
    found: dict[str, Tensor] = {
        "logits": logits,
        "loss": loss,
        f"grad.{QUERY}": adapter.prompts.grad.flatten(0, 1),
    }
    for index, layer in enumerate(range(adapter.first_layer, model.config.num_layers)):
        found[f"grad.{gate_name(layer)}"] = adapter.gates.grad[index].view(1, -1, 1, 1)
    with torch.no_grad():
        adapter.gates.zero_()
        found["logits_gate_zero"] = model(tokens, prefixes=adapter.prefixes(model))[:, :-1]
    compared = {name: value for name, value in found.items() if name in expected}
    unknown = [
        name for name in expected if name not in found and name not in ("tokens", "labels") and expected[name].any()
    ]
    if unknown:
        raise UserError(f"{folder}: {unknown[0]} was recorded but is not computed here; another version of the layout?")
    for name, value in compared.items():
        if expected[name].numel() != value.numel():
            recorded, here = tuple(expected[name].shape), tuple(value.shape)
            raise UserError(f"{folder}: {name} was recorded with shape {recorded}, here it has shape {here}.")
    return {
        name: float((value.detach() - expected[name].view(value.shape)).abs().max()) for name, value in compared.items()
    }


def read_recorded(path: Path) -> dict[str, Tensor]:
    """Return the recorded tensors of a folder.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        expected = load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: the recorded outputs are missing.") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}).") from error
    return expected


def _read_expected(path: Path) -> dict[str, Tensor]:
    expected = read_recorded(path)
    missing = [name for name in ("tokens", "labels", "logits", "loss") if name not in expected]
    if missing:
        raise UserError(f"{path}: {missing[0]} is not recorded.")
    return expected


def _adapted(gates: list[str], expected: dict[str, Tensor]) -> list[str]:
    # Layers below the adapted ones have a gate too in the original, which no gradient ever reaches.
    return [name for name in gates if bool(expected[name].any())]
