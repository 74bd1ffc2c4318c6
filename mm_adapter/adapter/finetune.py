"""What the adapter is compared with: low-rank updates of the frozen weights, or training every weight."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mm_adapter.core.errors import UserError
from mm_adapter.llama.frozen.matrix import frozen_matrices
from mm_adapter.llama.model import Llama


@dataclass(frozen=True)
class FinetuneConfig:
    """A way to train a language model other than by an adapter.

    Attributes:
        method: ``lora`` (low-rank updates of the query and value projections, arXiv 2106.09685, by the PEFT library) or
            ``full`` (every weight).
        rank: of the low-rank updates.
        alpha: the updates are scaled by alpha / rank.
    """

    method: str
    rank: int = 8
    alpha: int = 16

    def __post_init__(self) -> None:
        if self.method not in ("lora", "full"):
            raise UserError(f"method {self.method!r} is not known; adapter, lora and full are.")
        if self.rank < 1 or self.alpha < 1:
            raise UserError(f"lora: rank {self.rank} and alpha {self.alpha} must be greater than 0.")


class FinetunedWeights(nn.Module):
    """The trained weights of a language model, which stay where they are; this is their list.

    Attributes:
        config: how they are trained.
    """

    def __init__(self, config: FinetuneConfig, weights: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self.config = config
        # Names of parameters must not have dots.
        self.weights = nn.ParameterDict({name.replace(".", "/"): weight for name, weight in weights.items()})

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return all trained tensors as one kind, named as the method."""
        return {self.config.method: list(self.weights.values())}

    def tensors(self) -> dict[str, Tensor]:
        """Return the trained tensors by the names that they have in the model."""
        return {name.replace("/", "."): weight.detach() for name, weight in self.weights.items()}


def prepare_finetuning(llama: Llama, config: FinetuneConfig, seed: int = 0, training: bool = True) -> FinetunedWeights:
    """Make a model's weights trainable, in place.

    Args:
        llama: the frozen model; with ``lora`` its projections are wrapped.
        config: which weights, and how.
        seed: of the low-rank matrices.
        training: refuse weights that small steps would not change; not needed where trained ones are only loaded.

    Raises:
        UserError: the PEFT library is missing, or ``full`` is asked for in half precision or of a quantised model.
    """
    if config.method == "full":
        if any(frozen_matrices(llama)):
            raise UserError(
                "method full is of the weights themselves: the model must be neither quantised nor offloaded."
            )
        if training and llama.dtype != torch.float32:
            raise UserError(
                "method full trains the weights themselves: in half precision small steps are lost; use dtype float32."
            )
        for weight in llama.parameters():
            weight.data = weight.data.clone()  # it may be mapped from a file, which is not to be written
        llama.requires_grad_(True)
    else:
        _inject_lora(llama, config, seed)
    trained = {name: weight for name, weight in llama.named_parameters() if weight.requires_grad}
    return FinetunedWeights(config, trained)


def _inject_lora(llama: Llama, config: FinetuneConfig, seed: int) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError("method lora needs the PEFT library: pip install 'mm-adapter[compare]'.") from None
    targets = ["attention.query", "attention.value"]
    settings = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(settings, llama)
    for name, weight in llama.named_parameters():
        weight.requires_grad_("lora_" in name)
        if weight.requires_grad:
            # PEFT puts them where the weight is, which may be the host's memory.
            weight.data = weight.data.to(llama.device, torch.float32)


def load_finetuned(finetuned: FinetunedWeights, tensors: Mapping[str, Tensor], where: str) -> None:
    """Fill the trained weights with saved tensors.

    Raises:
        UserError: a tensor is missing, surplus or misshapen; ``where`` names the file.
    """
    wanted, found = ({n: tuple(t.shape) for n, t in part.items()} for part in (finetuned.tensors(), tensors))
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        first = wrong[0]
        raise UserError(
            f"{where}: {first} has shape {found.get(first, 'none')}, this model asks for {wanted.get(first, 'none')} "
            f"({len(wrong)} tensors differ)."
        )
    with torch.no_grad():
        for name, weight in finetuned.weights.items():
            weight.copy_(tensors[name.replace("/", ".")])
