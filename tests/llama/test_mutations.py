"""Damaged files of every kind are read or refused with one message, quickly, in little memory, and nothing runs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from llama_files import pieces_of, random_llama, write_gguf, write_meta, write_tiktoken
from safetensors.torch import load_file

CHILD = Path(__file__).with_name("mutated_files.py")
FOLDERS = {
    "gguf": ["m.gguf"],
    "hub": ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"],
    "bin": ["pytorch_model.bin", "pytorch_model.bin.index.json"],
    "meta": ["consolidated.00.pth", "params.json", "tokenizer.model"],
    "llama3": ["tokenizer.model"],
}
CASES = [(folder, file) for folder, files in FOLDERS.items() for file in files]
COUNTS = {"m.gguf": 40, "model.safetensors": 25, "pytorch_model.bin": 25, "consolidated.00.pth": 25}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """Small whole models in every layout."""
    root = tmp_path_factory.mktemp("intact")
    model = random_llama(vocab_size=340, num_layers=1)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat", "the hen has 12 feathers"] * 4),
        model_prefix=str(root / "tokenizer"),
        vocab_size=300,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    pieces = root / "tokenizer.model"
    (root / "gguf").mkdir()
    vocabulary = pieces_of(sentencepiece.SentencePieceProcessor(model_file=str(pieces)))
    write_gguf(root / "gguf" / "m.gguf", model, fill=vocabulary, rope_factors=torch.ones(8))
    shutil.copy(pieces, write_meta(root / "meta", model))
    write_tiktoken(write_meta(root / "llama3", random_llama(vocab_size=520, num_layers=1)) / "tokenizer.model")
    shutil.copytree(tiny_folder, root / "hub")
    settings = {"eos_token": "</s>", "chat_template": "{{ messages[0].content }}"}
    (root / "hub" / "tokenizer_config.json").write_text(json.dumps(settings))
    shutil.copytree(root / "hub", root / "bin", ignore=shutil.ignore_patterns("*.safetensors"))
    state = load_file(root / "hub" / "model.safetensors")
    torch.save(state, root / "bin" / "part.bin")
    torch.save(state, root / "bin" / "pytorch_model.bin")
    index = {"weight_map": dict.fromkeys(state, "part.bin")}
    (root / "bin" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return root


def outcomes(folder: Path, work: Path, file: str, count: int) -> list[dict[str, Any]]:
    """Return what the child process reports of each damaged file, the intact one first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(CHILD), str(folder), str(work), file, str(count)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    if result.returncode:
        lines.append({"case": lines[-1]["case"] if lines else "start", "outcome": result.stderr[-500:]})
    return lines


@pytest.mark.parametrize(("folder", "file"), CASES)
def test_damaged_files(folders: Path, tmp_path: Path, folder: str, file: str) -> None:
    """No damage crashes the reader, takes ten seconds or twice the memory, or gets anything run."""
    source = folders / folder
    if file == "pytorch_model.bin.index.json":
        source = shutil.copytree(source, tmp_path / "sharded", ignore=shutil.ignore_patterns("pytorch_model.bin"))
    count = COUNTS.get(file, 15)
    intact, *damaged = outcomes(source, tmp_path, file, count)
    assert intact["outcome"] == "read", intact
    finished = [case for case in damaged if case["outcome"] != "crashed"]
    assert len(finished) == count, damaged[-2:]
    for case in finished:
        assert case["outcome"] in ("read", "refused"), case
        assert case["seconds"] <= 10, case
        assert not case["executed"], case
        assert not case["grown"], case
        assert case["outcome"] == "read" or str(tmp_path) in case["message"], case
    assert any(case["outcome"] == "refused" for case in finished), "nothing was damaged enough"


def test_there_are_two_hundred() -> None:
    """As many damaged files as the project promises."""
    assert sum(COUNTS.get(file, 15) for _, file in CASES) >= 200
