"""PEFT's adaption prompts, in and out, against PEFT itself on transformers' LLaMA."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.formats.peft import CONFIG_FILE, WEIGHTS_FILE, read_peft, write_peft
from mm_adapter.core.errors import UserError
from mm_adapter.llama import Llama, LlamaConfig
from mm_adapter.llama.checkpoints.load import load_llama

BASES: dict[str, dict[str, Any]] = {
    "multi-head": {"num_key_value_heads": 6},
    "grouped": {"num_key_value_heads": 2},
    "multi-query": {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "stretched": {
        "num_key_value_heads": 2,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 5e5,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    },
}
TOKENS = torch.arange(22).view(2, 11) * 31 % 200
CONFIG = LlamaConfig(200, 48, 4, 6, 2, 8, 80)


def save_base(folder: Path, **changes: Any) -> Path:
    """A random model in transformers' own format."""
    from transformers import LlamaConfig as TheirConfig
    from transformers import LlamaForCausalLM

    torch.manual_seed(5)
    sizes = {"vocab_size": 200, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 6}
    model = LlamaForCausalLM(TheirConfig(**sizes, intermediate_size=80, initializer_range=0.2, **changes))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=BASES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bases of several kinds, one after another."""
    return save_base(tmp_path_factory.mktemp("base"), **BASES[request.param])


def their_logits(base: Path, adapter: Path) -> Tensor:
    """What PEFT makes of an adapter's folder."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    with torch.no_grad():
        return model(TOKENS).logits


def our_logits(llama: Llama, adapter: Adapter) -> Tensor:
    with torch.no_grad():
        return llama(TOKENS, prefixes=adapter.prefixes(llama))


def train_with_peft(base: Path, folder: Path, layers: int = 3, length: int = 5) -> Path:
    """An adapter that PEFT made and saved, gates opened."""
    from peft import AdaptionPromptConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = AdaptionPromptConfig(adapter_len=length, adapter_layers=layers, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    gates = [tensor for name, tensor in model.named_parameters() if name.endswith("adaption_gate")]
    with torch.no_grad():
        for index, gate in enumerate(gates):
            gate.fill_(0.7 - 0.9 * index)
    model.save_pretrained(folder)
    return folder


def trained(config: LlamaConfig, **changes: Any) -> Adapter:
    """An adapter with one gate for all heads of a layer, as PEFT's format can hold it."""
    adapter = Adapter(AdapterConfig(**({"layers": 3, "prompt_length": 5} | changes)), config, seed=3)
    if adapter.gates is not None:
        with torch.no_grad():
            adapter.gates.copy_(torch.linspace(-0.8, 1.3, len(adapter.gates))[:, None].expand(adapter.gates.shape))
    return adapter


def test_an_import_has_pefts_logits(base: Path, tmp_path: Path) -> None:
    """Whatever the base, what PEFT trained computes the same here."""
    folder = train_with_peft(base, tmp_path)
    llama = load_llama(str(base)).model
    found = our_logits(llama, read_peft(folder, llama.config))
    assert (found - their_logits(base, folder)).abs().max() <= 1e-5
    assert (found - llama(TOKENS)).abs().max() > 1e-2


@pytest.mark.parametrize("activation", ["tanh", "none"])
def test_an_export_has_the_same_logits_in_peft(base: Path, tmp_path: Path, activation: str) -> None:
    """PEFT reads what is written, warns of nothing missing, and computes the same."""
    llama = load_llama(str(base)).model
    adapter = trained(llama.config, gate_activation=activation)
    write_peft(tmp_path, adapter, llama.config, str(base))
    found = their_logits(base, tmp_path)
    assert (our_logits(llama, adapter) - found).abs().max() <= 1e-5
    assert (found - llama(TOKENS)).abs().max() > 1e-2


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    layers=st.integers(1, 4),
    length=st.integers(1, 4),
    gates=st.lists(st.floats(-50, 50, width=32), min_size=4, max_size=4),
)
def test_round_trips_lose_nothing(tmp_path: Path, seed: int, layers: int, length: int, gates: list[float]) -> None:
    """Adapter to folder to adapter, bit for bit, gates of any size included."""
    adapter = Adapter(AdapterConfig(layers, length, gate_activation="none"), CONFIG, seed)
    with torch.no_grad():
        adapter.gates.copy_(torch.tensor(gates[:layers])[:, None].expand(layers, 6))
    write_peft(tmp_path, adapter, CONFIG, "base")
    again = read_peft(tmp_path, CONFIG)
    assert again.config == adapter.config
    assert all(torch.equal(tensor, adapter.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_weights_of_old_versions(tmp_path: Path) -> None:
    """PEFT saved pickled weights once; they are read without any code in them."""
    write_peft(tmp_path, trained(CONFIG), CONFIG, "base")
    torch.save(load_file(tmp_path / WEIGHTS_FILE), tmp_path / "adapter_model.bin")
    expected = read_peft(tmp_path, CONFIG)
    (tmp_path / WEIGHTS_FILE).unlink()
    assert torch.equal(read_peft(tmp_path, CONFIG).prompts, expected.prompts)


NAME = "base_model.model.model.layers.3.self_attn.adaption_"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({NAME + "gate": None}, r"layers\.3\.self_attn\.adaption_gate is missing"),
        ({NAME + "gate": torch.zeros(6)}, r"adaption_gate is of shape \(6,\), expected \(1,\)"),
        ({NAME + "prompt": torch.zeros(1, 4, 48)}, r"of shape \(1, 4, 48\), expected \(1, 5, 48\)"),
        ({"base_model.model.lm_head.weight": torch.zeros(1)}, r"lm_head\.weight has no place in this format"),
        ({NAME + "gate": torch.tensor([float("inf")])}, "gates of layer 3 .* not finite"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, changes: dict[str, Tensor | None], message: str) -> None:
    """A tensor that is missing, surplus, misshapen or not finite is named."""
    write_peft(tmp_path, trained(CONFIG), CONFIG, "base")
    tensors = load_file(tmp_path / WEIGHTS_FILE) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, tmp_path / WEIGHTS_FILE)
    with pytest.raises(UserError, match=message):
        read_peft(tmp_path, CONFIG)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LORA"}, "peft_type is 'LORA'"),
        ({"target_modules": "attn"}, "target_modules is 'attn'"),
        ({"adapter_layers": 0}, "positive whole numbers"),
        ({"adapter_len": "5"}, "positive whole numbers"),
        ({"adapter_len": True}, "positive whole numbers"),
        ({"adapter_layers": 5}, "5 adapted layers, the model has 4"),
    ],
)
def test_configurations_that_do_not_fit(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """Another kind of adapter, another kind of model, sizes that are none."""
    write_peft(tmp_path, trained(CONFIG), CONFIG, "base")
    values = json.loads((tmp_path / CONFIG_FILE).read_text()) | changes
    (tmp_path / CONFIG_FILE).write_text(json.dumps(values))
    with pytest.raises(UserError, match=message):
        read_peft(tmp_path, CONFIG)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    """Each file is missed by name; a cut one is no traceback."""
    write_peft(tmp_path, trained(CONFIG), CONFIG, "base")
    (tmp_path / WEIGHTS_FILE).write_bytes((tmp_path / WEIGHTS_FILE).read_bytes()[:-9])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        read_peft(tmp_path, CONFIG)
    (tmp_path / WEIGHTS_FILE).unlink()
    with pytest.raises(UserError, match=f"{WEIGHTS_FILE}: the adapter's weights are missing"):
        read_peft(tmp_path, CONFIG)
    (tmp_path / CONFIG_FILE).unlink()
    with pytest.raises(UserError, match=CONFIG_FILE):
        read_peft(tmp_path, CONFIG)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 6}, "no place for the projection of its pictures"),
        ({"attention": "random-init"}, "it has no gates"),
        ({"prompt_heads": "litgpt-0.5.5"}, r"trained by litgpt 0\.5\.5 or later"),
        ({}, r"one gate per layer, and those of the heads of layer 2 differ"),
    ],
)
def test_what_cannot_go_out(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """What the format has no words for is refused with the reason; no file appears."""
    adapter = trained(CONFIG, **changes)
    if not changes:
        with torch.no_grad():
            adapter.gates[1, 4] += 0.01
    with pytest.raises(UserError, match=message):
        write_peft(tmp_path, adapter, CONFIG, "base")
    assert not list(tmp_path.iterdir())


def test_pefts_second_bias_is_refused(tmp_path: Path) -> None:
    """With attention bias PEFT is not the base model even while its gates are closed: that is shown, and refused."""
    from transformers import AutoModelForCausalLM

    base = save_base(tmp_path / "base", attention_bias=True, num_key_value_heads=2)
    model = AutoModelForCausalLM.from_pretrained(base)
    for layer in model.model.layers:
        torch.nn.init.normal_(layer.self_attn.o_proj.bias)
    model.save_pretrained(base)
    folder = train_with_peft(base, tmp_path / "adapter")
    tensors = {name: tensor * (not name.endswith("gate")) for name, tensor in load_file(folder / WEIGHTS_FILE).items()}
    save_file(tensors, folder / WEIGHTS_FILE)
    llama = load_llama(str(base)).model
    assert (their_logits(base, folder) - llama(TOKENS)).abs().max() > 1e-2
    with pytest.raises(UserError, match="a second time"):
        read_peft(folder, llama.config)
    with pytest.raises(UserError, match="a second time"):
        write_peft(tmp_path / "out", trained(llama.config), llama.config, str(base))


def test_wide_heads_are_refused(tmp_path: Path) -> None:
    """PEFT derives the number of key heads from D / H, so its own code fails on other widths."""
    base = save_base(tmp_path / "base", head_dim=16, num_key_value_heads=2)
    config = load_llama(str(base)).model.config
    with pytest.raises(UserError, match="cannot run adaption prompts"):
        write_peft(tmp_path / "out", trained(config), config, str(base))
    folder = train_with_peft(base, tmp_path / "adapter")
    with pytest.raises((RuntimeError, ZeroDivisionError)):
        their_logits(base, folder)
    with pytest.raises(UserError, match="cannot run adaption prompts"):
        read_peft(folder, config)
