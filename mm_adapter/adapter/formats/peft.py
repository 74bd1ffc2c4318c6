"""Adapters of PEFT (``adaption_prompt``), in and out.

PEFT adds ``W_o(gate * attention to the prompts)`` to the attention's output, with one gate per layer and no tanh. The
output projection is linear, so this is our sum before the projection with the same gate on every head, as long as the
projection has no bias: PEFT would add that a second time. It recomputes the queries, rotated by the same tables.
"""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.formats.foreign import (
    build_adapter,
    check_tensors,
    gate_strengths,
    refuse_foreign_heads,
    refuse_inexpressible,
)
from mm_adapter.core.errors import UserError
from mm_adapter.core.files import read_json, refuse_pointer, write_atomically, write_json
from mm_adapter.llama.checkpoints.meta import read_tensors
from mm_adapter.llama.config import LlamaConfig

CONFIG_FILE, WEIGHTS_FILE, OLD_WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_NAME = "PEFT's format"
_KIND, _MODULE = "ADAPTION_PROMPT", "self_attn"


def read_peft(folder: Path, llama: LlamaConfig) -> Adapter:
    """Read an adapter that PEFT saved.

    Args:
        folder: ``adapter_config.json`` with ``adapter_model.safetensors`` or, from old versions, ``adapter_model.bin``.
        llama: shape of the base model.

    Raises:
        UserError: a file is missing or damaged, the adapter is of another kind, a tensor is missing, surplus or
            misshapen, or PEFT computes something that this model cannot.
    """
    layers, length = _read_config(folder / CONFIG_FILE)
    _refuse_other_models(llama)
    path, tensors = _read_weights(folder)
    config = AdapterConfig(layers=layers, prompt_length=length, gate_activation="none")
    if layers > llama.num_layers:
        raise UserError(f"{folder / CONFIG_FILE}: {layers} adapted layers, the model has {llama.num_layers}.")
    adapted = range(llama.num_layers - layers, llama.num_layers)
    prompts, gates = [_tensor_name(layer, "prompt") for layer in adapted], [_tensor_name(n, "gate") for n in adapted]
    wanted = {name: [(1, length, llama.hidden_size)] for name in prompts} | {name: [(1,)] for name in gates}
    check_tensors(path, tensors, wanted, [name for name in tensors if name not in wanted])
    return build_adapter(path, config, llama, [tensors[name] for name in prompts], [tensors[name] for name in gates])


def write_peft(folder: Path, adapter: Adapter, llama: LlamaConfig, base: str) -> None:
    """Write an adapter that ``PeftModel.from_pretrained`` reads, the weights first.

    Args:
        base: name of the base model, for PEFT's configuration.

    Raises:
        UserError: the format cannot hold the adapter, PEFT cannot run it on the model, or the folder cannot be written.
    """
    refuse_inexpressible(adapter, _NAME)
    refuse_foreign_heads(adapter, _NAME)
    _refuse_other_models(llama)
    tensors: dict[str, Tensor] = {}
    for index, strengths in enumerate(gate_strengths(adapter)):
        layer = adapter.first_layer + index
        if bool((strengths != strengths[0]).any()):
            low, high = float(strengths.min()), float(strengths.max())
            raise UserError(
                f"{_NAME} cannot hold this adapter: it has one gate per layer, and those of the heads of layer {layer} "
                f"differ ({low:.4g} to {high:.4g})."
            )
        tensors[_tensor_name(layer, "gate")] = strengths[:1].clone()
        tensors[_tensor_name(layer, "prompt")] = adapter.prompts[index].detach().cpu().clone()[None]
    write_atomically(folder / WEIGHTS_FILE, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    values = {
        "adapter_layers": adapter.config.layers,
        "adapter_len": adapter.config.prompt_length,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "peft_type": _KIND,
        "target_modules": _MODULE,
        "task_type": "CAUSAL_LM",
    }
    write_json(folder / CONFIG_FILE, values)


def _tensor_name(layer: int, kind: str) -> str:
    return f"base_model.model.model.layers.{layer}.{_MODULE}.adaption_{kind}"


def _read_config(path: Path) -> tuple[int, int]:
    values = read_json(path, "PEFT's adapter configuration")
    kind = values.get("peft_type") if isinstance(values, dict) else None
    if kind != _KIND:
        raise UserError(f"{path}: peft_type is {kind!r}; of PEFT's adapters, {_KIND} alone can be converted.")
    if values.get("target_modules") not in (None, _MODULE):
        raise UserError(f"{path}: target_modules is {values['target_modules']!r}; only {_MODULE} is a LLaMA's.")
    layers, length = values.get("adapter_layers"), values.get("adapter_len")
    if type(layers) is not int or type(length) is not int or layers < 1 or length < 1:
        raise UserError(f"{path}: adapter_layers and adapter_len must be positive whole numbers.")
    return layers, length


def _read_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    path, old = folder / WEIGHTS_FILE, folder / OLD_WEIGHTS_FILE
    if not path.exists() and old.exists():
        return old, read_tensors(old)
    refuse_pointer(path)
    try:
        return path, load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: the adapter's weights are missing.") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error}). Copy it again.") from error


def _refuse_other_models(llama: LlamaConfig) -> None:
    if llama.attention_bias:
        raise UserError(
            "PEFT adds the bias of the attention's output projection a second time in every adapted layer; "
            "no adapter here computes that, so adapters for models with attention bias are not converted."
        )
    if llama.head_dim * llama.num_heads != llama.hidden_size:
        raise UserError(
            f"PEFT's own code cannot run adaption prompts on a model whose {llama.num_heads} heads of width "
            f"{llama.head_dim} are not {llama.hidden_size} together."
        )
