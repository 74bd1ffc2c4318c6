"""Quantised models: as close as their bits allow, exact in products and gradients, small, and still themselves."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from llama_files import huggingface_tensors, random_llama, write_gguf, write_huggingface, write_meta
from safetensors.torch import save_file

import mm_adapter.llama.frozen.quantized as torchao_matrix
from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.finetune import FinetuneConfig, prepare_finetuning
from mm_adapter.core.errors import UserError
from mm_adapter.llama import Llama
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.llama.frozen.blocks import dequantized
from mm_adapter.llama.frozen.matrix import FrozenLinear, Matrix, count_frozen, frozen_matrices, product, weight_bytes
from mm_adapter.llama.frozen.quantized import Int4Matrix, Int8Matrix

WEIGHTS = torch.randn(160, 96, generator=torch.Generator().manual_seed(0))
BY_LIBRARY = ("int8", "int4")


@pytest.fixture
def library():
    """The library of int8 and int4."""
    pytest.importorskip("torchao", reason="torchao is an extra: pip install 'mm-adapter[quantized]'")


@pytest.fixture
def q8_file(tmp_path):
    """A GGUF file in Q8_0, with biases and a head of its own."""
    return write_gguf(tmp_path / "m.gguf", random_llama(attention_bias=True), Kind.Q8_0)


def dense_llama(quantized: Llama) -> Llama:
    """The same model in plain float32 modules, its matrices written out."""
    tensors = dict(quantized.state_dict())
    for name, module in quantized.named_modules():
        if isinstance(getattr(module, "matrix", None), Matrix):
            tensors[f"{name}.weight"] = module.matrix.dense(slice(0, module.matrix.shape[0]), torch.float32)
    model = Llama(quantized.config)
    model.load_state_dict(tensors)
    return model.requires_grad_(False).eval()


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1, Kind.Q8_0, Kind.Q4_K, Kind.Q6_K, Kind.Q5_0, Kind.Q3_K])
def test_blocks_become_what_the_gguf_package_makes_of_them(kind):
    """Any bytes, bit for bit; kinds that torch does not make dense here come from the package itself."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = np.random.default_rng(0).integers(0, 256, (400, size), dtype=np.uint8)
    with np.errstate(invalid="ignore", over="ignore"):
        expected = torch.from_numpy(gguf.quants.dequantize(blocks, kind))
        found = dequantized(torch.from_numpy(blocks), kind)
    assert torch.equal(found.nan_to_num(), expected.nan_to_num())
    assert torch.equal(found.isnan(), expected.isnan())


@pytest.mark.usefixtures("library")
def test_eight_bits_are_within_a_step_of_the_row():
    """A value is off by at most a 255th of twice its row's largest, and most by half of that."""
    matrix = Int8Matrix.quantize((160, 96), WEIGHTS.split(50))
    error = (matrix.dense(slice(0, 160), torch.float32) - WEIGHTS).abs()
    step = 2 * WEIGHTS.abs().amax(dim=1, keepdim=True) / 255
    assert (error <= step * 1.001).all()
    assert (error <= step / 2 * 1.001).float().mean() > 0.98


@pytest.mark.usefixtures("library")
def test_four_bits_are_within_half_a_step_of_the_group():
    """A value is off by at most half of a fifteenth of what its 32 span, and what the scales' rounding adds."""
    matrix = Int4Matrix.quantize((160, 96), WEIGHTS.split(50))
    groups = WEIGHTS.view(160, 3, 32)
    error = (matrix.dense(slice(0, 160), torch.float32).view(160, 3, 32) - groups).abs()
    step = (groups.amax(dim=2, keepdim=True) - groups.amin(dim=2, keepdim=True)) / 15
    assert (error <= step / 2 + 0.01 * step + 4e-3).all()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("kind", [Int8Matrix, Int4Matrix])
def test_any_rows_are_those_of_the_whole(kind):
    """Slabs, slices and indices of rows tell the same values, in float32 and rounded to bfloat16."""
    matrix = kind.quantize((160, 96), WEIGHTS.split(50))
    whole = kind.quantize((160, 96), [WEIGHTS]).dense(slice(0, 160), torch.float32)
    assert torch.equal(matrix.dense(slice(64, 130), torch.float32), whole[64:130])
    rows = torch.tensor([5, 159, 5])
    assert torch.equal(matrix.dense(rows, torch.float32), whole[rows])
    assert torch.equal(matrix.dense(rows, torch.bfloat16), whole[rows].bfloat16())


@pytest.mark.usefixtures("library")
def test_product_and_gradient_piece_by_piece(monkeypatch):
    """A product in pieces of a few rows, and its gradient, are those of the dense matrix; no graph is kept on it."""
    monkeypatch.setattr("mm_adapter.llama.frozen.matrix._PIECE", 96 * 7)
    matrix = Int4Matrix.quantize((160, 96), [WEIGHTS])
    dense = matrix.dense(slice(0, 160), torch.float32)
    features = torch.randn(2, 5, 96, requires_grad=True)
    gradient = torch.randn(2, 5, 160)
    assert len(list(matrix.pieces())) == 23
    outcome = product(features, matrix)
    assert torch.allclose(outcome, features @ dense.T, atol=1e-5)
    (found,) = torch.autograd.grad(outcome, features, gradient)
    assert torch.allclose(found, gradient @ dense, atol=1e-5)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("quantization", ["int8", "int4", "blocks"])
def test_model_equals_its_own_matrices_written_out(q8_file, quantization):
    """Logits are those of plain float32 modules with the dense matrices, and near those of the stored weights."""
    loaded = load_llama(str(q8_file), quantization=quantization)
    tokens = torch.arange(40).view(2, 20) * 7
    expected = dense_llama(loaded.model)(tokens)
    assert torch.allclose(loaded.model(tokens), expected, atol=1e-4, rtol=1e-4)
    stored = load_llama(str(q8_file))
    assert loaded.fingerprint == stored.fingerprint
    error = (loaded.model(tokens) - stored.model(tokens)).norm() / stored.model(tokens).norm()
    assert error <= {"int8": 0.03, "int4": 0.5, "blocks": 1e-6}[quantization]
    half = load_llama(str(q8_file), torch.bfloat16, quantization=quantization)
    assert half.model(tokens).dtype == half.model.dtype == torch.bfloat16
    assert (half.model(tokens).float() - expected).norm() / expected.norm() < 0.1


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("attention", ["zero-init", "random-init"])
@pytest.mark.parametrize("quantization", ["int8", "int4", "blocks"])
def test_adapter_learns_as_on_the_matrices_written_out(q8_file, quantization, attention, checkpoint):
    """Gradients of prompts, gates and projection are those on the dense float32 model, to 1e-5 of the largest."""
    quantized = load_llama(str(q8_file), quantization=quantization).model
    quantized.gradient_checkpointing = checkpoint
    found = []
    for model in (quantized, dense_llama(quantized)):
        adapter = Adapter(AdapterConfig(2, 3, attention, image_size=5, bottleneck=4), model.config)
        with torch.no_grad():
            for weight in adapter.parameters():
                weight.normal_(generator=torch.Generator().manual_seed(len(weight)))
        features = torch.randn(2, 5, generator=torch.Generator().manual_seed(2))
        prefixes = adapter.prefixes(model, features, torch.tensor([True, False]))
        model(torch.arange(40).view(2, 20) * 7, prefixes=prefixes).logsumexp(dim=-1).sum().backward()
        found.append([weight.grad for weight in adapter.parameters()])
    for own, expected in zip(*found, strict=True):
        assert (own - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.usefixtures("library")
def test_low_rank_updates_learn_on_a_quantised_model(q8_file):
    """LoRA's gradients are those on the dense model, under the same names; training every weight is refused."""
    pytest.importorskip("peft")
    quantized = load_llama(str(q8_file), quantization="int4").model
    with pytest.raises(UserError, match="neither quantised nor offloaded"):
        prepare_finetuning(quantized, FinetuneConfig("full"))
    found = []
    for model in (quantized, dense_llama(quantized)):
        update = prepare_finetuning(model, FinetuneConfig("lora", rank=2))
        with torch.no_grad():
            for weight in update.parameters():
                weight.normal_(generator=torch.Generator().manual_seed(1))
        model(torch.arange(20)[None]).logsumexp(dim=-1).sum().backward()
        found.append({name: weight.grad for name, weight in update.weights.items()})
    assert found[0].keys() == found[1].keys()
    for name, expected in found[1].items():
        assert (found[0][name] - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("quantization", "share"), [("int8", 0.28), ("int4", 0.2), ("blocks", 0.28)])
def test_matrices_shrink(tmp_path, quantization, share):
    """All matrices are quantised, embedding and head too; scales, norms and biases are counted."""
    sizes = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}
    path = write_gguf(tmp_path / "m.gguf", random_llama(**sizes, tied_embeddings=True), Kind.Q8_0)
    stored, loaded = load_llama(str(path)).model, load_llama(str(path), quantization=quantization).model
    assert weight_bytes(loaded) <= share * weight_bytes(stored)
    assert count_frozen(loaded) == count_frozen(stored)
    assert len(list(frozen_matrices(loaded))) == 1 + 7 * 2
    assert not any(weight.requires_grad for weight in loaded.parameters())


@pytest.mark.usefixtures("library")
def test_every_format_and_a_width_without_groups(tmp_path):
    """Hugging Face and Meta folders are quantised as they stream by; rows that are not whole groups stay in 8 bits."""
    model = random_llama(hidden_size=80, head_dim=20, intermediate_size=96)
    folder = write_huggingface(tmp_path / "hf", model.config)
    save_file(huggingface_tensors(model), folder / "model.safetensors")
    tokens = torch.arange(20)[None]
    for name in (folder, write_meta(tmp_path / "meta", model, shards=2)):
        loaded = load_llama(str(name), quantization="int4").model
        kinds = {type(loaded.layers[0].mlp.up.matrix), type(loaded.layers[0].mlp.down.matrix)}
        assert kinds == {Int8Matrix, Int4Matrix}
        assert torch.allclose(loaded(tokens), dense_llama(loaded)(tokens), atol=1e-4, rtol=1e-4)


def test_blocks_stay_mapped(q8_file):
    """Blocks are the file's own bytes, not a copy, save where the rows of queries and keys change places."""
    model = load_llama(str(q8_file), quantization="blocks").model
    attention = model.layers[0].attention
    assert isinstance(attention.value, FrozenLinear)
    raw = np.fromfile(q8_file, np.uint8).tobytes()
    assert attention.value.matrix.blocks.numpy().tobytes() in raw
    assert attention.query.matrix.blocks.numpy().tobytes() not in raw
    if not Path("/proc/self/maps").exists():
        return
    ranges = [
        line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if str(q8_file) in line
    ]
    address = attention.value.matrix.blocks.data_ptr()
    assert any(int(first, 16) <= address < int(last, 16) for first, last in ranges)


def test_what_cannot_be_is_refused(tiny_folder, q8_file, monkeypatch):
    """Unknown names, blocks of formats without them, and a missing library are told with the way out."""
    with pytest.raises(UserError, match="did you mean 'int8'"):
        load_llama(str(q8_file), quantization="int9")
    with pytest.raises(UserError, match="blocks is of GGUF files"):
        load_llama(str(tiny_folder), quantization="blocks")

    def missing(name):
        raise ImportError(name)

    torchao_matrix._library.cache_clear()
    monkeypatch.setattr(torchao_matrix.importlib, "import_module", missing)
    for quantization in BY_LIBRARY:
        with pytest.raises(UserError, match=r"pip install 'mm-adapter\[quantized\]'"):
            load_llama(str(q8_file), quantization=quantization)
    torchao_matrix._library.cache_clear()
