"""Layers in the host's memory: the same numbers, each matrix brought for its use and let go after it."""

import gc
import weakref

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from llama_files import random_llama, write_gguf

from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.llama.frozen.offload import HostMatrix, MatrixPrefetcher


@pytest.fixture
def path(tmp_path):
    return write_gguf(tmp_path / "m.gguf", random_llama(num_layers=3, attention_bias=True), Kind.Q8_0)


@pytest.fixture
def copies(monkeypatch):
    """Every copy that a prefetcher makes: its number, and a reference that dies with it."""
    made = []
    real = MatrixPrefetcher._copy

    def copy(self, number):
        matrix = real(self, number)
        made.append((number, weakref.ref(next(iter(matrix.tensors().values())))))
        return matrix

    monkeypatch.setattr(MatrixPrefetcher, "_copy", copy)
    return made


def gradients(model, seed=0):
    """Loss and gradients of an adapter with open gates on all layers."""
    adapter = Adapter(AdapterConfig(3, 4), model.config, seed)
    with torch.no_grad():
        adapter.gates.normal_(generator=torch.Generator().manual_seed(1))
    tokens = torch.arange(30).view(2, 15) * 5
    loss = model(tokens, prefixes=adapter.prefixes(model)).float().logsumexp(-1).sum()
    loss.backward()
    return loss.detach(), adapter.prompts.grad, adapter.gates.grad


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("quantization", ["none", "blocks"])
def test_same_loss_and_gradients_bit_for_bit(path, quantization, checkpoint):
    """Where a matrix lies changes no number, whatever form it has, with and without checkpointing."""
    there = load_llama(str(path), quantization=quantization, offload=False).model
    away = load_llama(str(path), quantization=quantization, offload=True).model
    away.gradient_checkpointing = checkpoint
    linears = [away.layers[0].attention.key, away.layers[2].mlp.down]
    assert all(isinstance(linear.matrix, HostMatrix) for linear in linears)
    assert all(torch.equal(*pair) for pair in zip(gradients(there), gradients(away), strict=True))


def test_order_of_copies(path, copies):
    """A pass brings each matrix once, in its order; the next is there before it is asked for."""
    model = load_llama(str(path), offload=True).model
    with torch.no_grad():
        model(torch.arange(15)[None])
    assert [number for number, _ in copies] == list(range(21))
    prefetcher = model.layers[0].mlp.down.matrix.prefetcher
    assert len(prefetcher.matrices) == 21
    copies.clear()
    prefetcher.fetch(20)
    prefetcher.fetch(19)
    prefetcher.fetch(18)
    assert [number for number, _ in copies] == [20, 19, 18, 17]


def test_nothing_is_kept_on_the_device(path, copies):
    """While a graph waits for its way back, and after it, no copy is alive but the one that was brought ahead."""
    model = load_llama(str(path), offload=True).model
    adapter = Adapter(AdapterConfig(3, 4), model.config)
    loss = model(torch.arange(15)[None], prefixes=adapter.prefixes(model)).sum()
    for _ in range(2):
        gc.collect()
        assert sum(reference() is not None for _, reference in copies) <= 1
        if loss.requires_grad:
            loss.backward()
            loss = loss.detach()


def test_moving_the_model_leaves_the_layers_in_the_host(path):
    """``to`` takes what is computed with alone: matrices in the host's memory keep their place and their dtype."""
    model = load_llama(str(path), quantization="blocks", offload=True).model
    before = model.layers[0].mlp.down.matrix.tensors()["blocks"]
    model.to(torch.device("cpu"), torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model.layers[0].mlp.down.matrix.tensors()["blocks"] is before
