"""``mm-adapter convert`` as a person runs it: what comes in can be used, what goes out comes back, losses are named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mm_adapter.adapter.checkpoint import load_adapter, read_description
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.model import MultimodalLlama

HEADS, WIDTH, LENGTH = 6, 48, 10


def gates(layers: int, shared: bool = False) -> torch.Tensor:
    values = torch.linspace(-0.9, 0.8, layers * HEADS).view(layers, HEADS)
    return values[:, :1].expand(-1, HEADS).clone() if shared else values


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A file of the original V1 code: two of four layers."""
    prompts = torch.randn(2 * LENGTH, WIDTH, generator=torch.Generator().manual_seed(0))
    tensors = {f"layers.{layer}.attention.gate": gates(4)[layer].clone().view(1, -1, 1, 1) for layer in range(4)}
    torch.save({"adapter_query.weight": prompts, **tensors}, tmp_path / "official.pth")
    return tmp_path / "official.pth"


@pytest.fixture
def peft(tmp_path: Path) -> Path:
    """A folder of PEFT."""
    folder = tmp_path / "peft"
    folder.mkdir()
    tensors = {}
    for layer in (1, 2, 3):
        name = f"base_model.model.model.layers.{layer}.self_attn.adaption"
        tensors |= {f"{name}_prompt": torch.full((1, 5, WIDTH), layer / 7), f"{name}_gate": torch.tensor([layer / 2])}
    save_file(tensors, folder / "adapter_model.safetensors")
    values = {"peft_type": "ADAPTION_PROMPT", "adapter_layers": 3, "adapter_len": 5, "target_modules": "self_attn"}
    (folder / "adapter_config.json").write_text(json.dumps(values))
    return folder


@pytest.fixture
def litgpt(tmp_path: Path) -> Path:
    """A folder of litgpt."""
    folder = tmp_path / "litgpt"
    folder.mkdir()
    tensors = {}
    for layer in (2, 3):
        name = f"transformer.h.{layer}.attn"
        tensors[f"{name}.adapter_wte.weight"] = torch.full((4, WIDTH), layer / 5)
        tensors[f"{name}.gating_factor"] = gates(2)[layer - 2].clone().view(1, 1, -1, 1)
    torch.save({"model": tensors}, folder / "lit_model.pth.adapter")
    return folder


def test_an_official_adapter_comes_in(
    command: Callable[..., Any], official: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """It says what it assumed of gates and layers, and the result answers questions on its base."""
    out = tmp_path / "out"
    outcome = command("convert", "--from", "official", "--adapter", official, "--llama", tiny_folder, "--out", out)
    assert outcome.status == 0, outcome.err
    assert "2 layers of 10 prompts, from layer 2" in outcome.out
    assert "gates before tanh, as the original's training code has them (--gate plain" in outcome.out
    assert "ten prompts a layer" in outcome.out
    assert f"wrote {out / 'adapter_model.safetensors'}" in outcome.out
    model = MultimodalLlama.from_pretrained(adapter=out)
    assert model.adapter is not None
    assert model.adapter.gates is not None
    assert torch.equal(model.adapter.gates, gates(4)[2:])
    answered = command("answer", "--adapter", out, "--question", "Why?", "--choices", "a", "b")
    assert answered.status == 0, answered.err


def test_plain_gates_and_layers_are_taken_at_their_word(
    command: Callable[..., Any], official: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """--gate plain keeps the gates unsquashed; --layers shares the rows out otherwise."""
    out = tmp_path / "out"
    where = ["--adapter", official, "--llama", tiny_folder, "--out", out]
    outcome = command("convert", "--from", "official", "--gate", "plain", "--layers", 4, *where)
    assert outcome.status == 0, outcome.err
    assert "4 layers of 5 prompts, from layer 0" in outcome.out
    assert "gates without tanh, as the original's inference code has them" in outcome.out
    assert "ten prompts" not in outcome.out
    assert read_description(out).adapter.gate_activation == "none"


def test_peft_there_and_back(command: Callable[..., Any], peft: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """Both ways lose nothing; PEFT's configuration names the base."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    first = command("convert", "--from", "peft", "--adapter", peft, "--llama", tiny_folder, "--out", ours)
    assert first.status == 0, first.err
    assert "gates without tanh, one per layer for all heads" in first.out
    second = command("convert", "--to", "peft", "--adapter", ours, "--out", theirs)
    assert second.status == 0, second.err
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (peft, theirs))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((theirs / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny_folder)


@pytest.mark.parametrize("qkv", ["concatenated", "interleaved"])
def test_litgpt_there_and_back(
    command: Callable[..., Any], litgpt: Path, tiny_folder: Path, tmp_path: Path, qkv: str
) -> None:
    """Both ways lose nothing, for either version of litgpt; what its configuration must say is printed."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    choice = ["--qkv", qkv] if qkv == "interleaved" else []
    first = command("convert", "--from", "litgpt", "--adapter", litgpt, "--llama", tiny_folder, "--out", ours, *choice)
    assert first.status == 0, first.err
    assert ("since 0.5.5" in first.out) == (qkv == "concatenated")
    second = command("convert", "--to", "litgpt", "--adapter", ours, "--out", theirs, *choice)
    assert second.status == 0, second.err
    assert "adapter_prompt_length: 4" in second.out
    before, after = (
        torch.load(folder / "lit_model.pth.adapter", weights_only=True)["model"] for folder in (litgpt, theirs)
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_trained_adapter_goes_out(
    command: Callable[..., Any], text_run: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """Its own base is found by itself; that the prompt's wording stays behind is said; logits are kept."""
    out, back = tmp_path / "out", tmp_path / "back"
    first = command("convert", "--to", "litgpt", "--qkv", "interleaved", "--adapter", text_run, "--out", out)
    assert first.status == 0, first.err
    assert "how questions were put is not part of that format" in first.out
    again = ["--from", "litgpt", "--qkv", "interleaved", "--adapter", out, "--llama", tiny_folder, "--out", back]
    assert command("convert", *again).status == 0
    llama = load_llama(str(tiny_folder)).model
    tokens = torch.arange(9)[None]
    before, after = (load_adapter(folder, llama.config)[0] for folder in (text_run, back))
    assert before.gates is not None
    assert before.gates.abs().max() > 0
    with torch.no_grad():
        found = [llama(tokens, prefixes=adapter.prefixes(llama)) for adapter in (before, after)]
    assert (found[0] - found[1]).abs().max() <= 1e-5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--to", "peft"], "one gate per layer, and those of the heads of layer 2 differ"),
        (["--to", "official"], "runs LLaMA 1 alone; this model has grouped queries"),
        (["--to", "litgpt"], "since 0.5.5 cannot hold this adapter"),
        (["--to", "litgpt", "--gate", "tanh"], "--gate says nothing about a conversion from mm-adapter to litgpt"),
        (["--to", "peft", "--qkv", "interleaved"], "--qkv says nothing"),
        (["--to", "peft", "--layers", "2"], "--layers says nothing"),
        (["--to", "pfet"], "did you mean 'peft'"),
        ([], "one side must be mm-adapter"),
        (["--from", "peft", "--to", "litgpt"], "convert in two steps"),
        (["--from", "peft"], "--llama is missing"),
    ],
)
def test_losses_and_senseless_options(
    refused: Callable[..., str], text_run: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    """One message with the reason; nothing is written."""
    assert said in refused("convert", "--adapter", text_run, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ["peft", "litgpt", "official"])
def test_pictures_stay_here(refused: Callable[..., str], picture_run: Path, tmp_path: Path, target: str) -> None:
    """No other format has a place for a projection of pictures."""
    message = refused("convert", "--to", target, "--adapter", picture_run, "--out", tmp_path / "out")
    assert "no place for the projection of its pictures" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("source", ["official", "peft", "litgpt"])
def test_files_of_another_kind(
    refused: Callable[..., str], text_run: Path, tiny_folder: Path, tmp_path: Path, source: str
) -> None:
    """An adapter of ours is none of theirs; the file is named."""
    path = text_run / "adapter_model.safetensors" if source == "official" else text_run
    where = ["--adapter", path, "--llama", tiny_folder, "--out", tmp_path / "out"]
    assert str(text_run) in refused("convert", "--from", source, *where)
    assert not (tmp_path / "out").exists()


def test_code_in_a_file_is_not_run(refused: Callable[..., str], tiny_folder: Path, tmp_path: Path) -> None:
    """A pickle that would call something is refused."""

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "touched",)

    torch.save({"adapter_query.weight": Evil()}, tmp_path / "evil.pth")
    where = ["--adapter", tmp_path / "evil.pth", "--llama", tiny_folder, "--out", tmp_path / "out"]
    assert "evil.pth" in refused("convert", "--from", "official", *where)
    assert not (tmp_path / "touched").exists()


def test_nothing_is_replaced(refused: Callable[..., str], peft: Path, tiny_folder: Path) -> None:
    """PEFT's files have the names of ours: converting a folder into itself would lose the original."""
    before = {path: path.read_bytes() for path in peft.iterdir()}
    message = refused("convert", "--from", "peft", "--adapter", peft, "--llama", tiny_folder, "--out", peft)
    assert "is there already" in message
    assert {path: path.read_bytes() for path in peft.iterdir()} == before


def test_another_base(refused: Callable[..., str], text_run: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """An adapter of ours goes out with the base that it was trained on, and no other."""
    tensors = load_file(tiny_folder / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * 2
    other = tmp_path / "other"
    other.mkdir()
    save_file(tensors, other / "model.safetensors")
    (other / "config.json").write_text((tiny_folder / "config.json").read_text())
    where = ["--adapter", text_run, "--llama", other, "--out", tmp_path / "out"]
    assert "trained on" in refused("convert", "--to", "litgpt", "--qkv", "interleaved", *where)
