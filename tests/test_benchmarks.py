"""What benchmarks rest on: contenders that take turns, the same model in transformers, slopes, kinds of operations."""

from pathlib import Path

import pytest
import torch
from benchmark_growth import exponent
from profile_training import ATTENTION, COPIES, PRODUCTS, VALUES, kind_of
from reference_llama import reference_llama
from turns import compete, median, ratio

from mm_adapter.llama import Llama

WORKER = """
import argparse, sys
from turns import take_turns, worker_settings
parser = argparse.ArgumentParser()
worker_settings(parser)
settings = parser.parse_args().worker
rounds = iter(range(100))
def make():
    number = next(rounds)
    if settings.get("fails") and number == 2:
        sys.exit(3)
    print("words that a library prints")
    return {"seconds": settings["each"] * (number + 1), "number": number}
sys.exit(take_turns(make))
"""


def test_contenders_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds come back in order, the one for warming up is not among them, and ratios are by pairs of rounds."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parent.parent / "scripts"))
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    results = compete(str(script), {"one": {"each": 2.0}, "other": {"each": 1.0}}, 3)
    assert [one["number"] for one in results["one"]] == [1, 2, 3]
    assert median(results["other"], "seconds") == 3.0
    assert ratio(results["one"], results["other"], "seconds") == 2.0
    assert all(one["peak_mib"] > 1 for one in results["one"])
    with pytest.raises(SystemExit, match="status 3"):
        compete(str(script), {"one": {"each": 1.0, "fails": True}}, 3)


def test_reference_computes_with_our_weights(tiny_llama: Llama) -> None:
    """What is compared with for speed gives the same logits, from the same memory."""
    tokens = torch.randint(300, (2, 17), generator=torch.Generator().manual_seed(0))
    reference = reference_llama(tiny_llama)
    with torch.no_grad():
        assert (reference(tokens).logits - tiny_llama(tokens)).abs().max() < 1e-5
    assert reference.model.embed_tokens.weight.data_ptr() == tiny_llama.embedding.weight.data_ptr()


def test_exponents_are_slopes() -> None:
    """Of a law the power; what does not grow with it is left behind with the smaller sizes."""
    assert exponent({size: 3e-4 * size**1.5 for size in (1, 4, 16, 64)}) == pytest.approx(1.5)
    assert exponent({1: 1.0, 2: 1.0, 100: 10.0, 1000: 100.0}) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::mm", PRODUCTS),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", ATTENTION),
        ("aten::mul_", VALUES),
        ("aten::silu_backward", VALUES),
        ("aten::cat", COPIES),
        ("aten::copy_", COPIES),
        ("aten::view", "calls and the rest"),
        ("aten::matmul", "calls and the rest"),
    ],
)
def test_operations_are_told_apart(operation: str, kind: str) -> None:
    assert kind_of(operation) == kind
