"""An adapter of the original multimodal V2 code comes in by ``mm-adapter convert`` and does what adapters do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from mm_adapter import MultimodalLlama
from mm_adapter.adapter import Adapter, AdapterConfig
from mm_adapter.adapter.formats.official_v2 import official_v2_tensors
from mm_adapter.inference.chat_session import ChatSession
from mm_adapter.inference.generation import GenerationConfig
from mm_adapter.llama.checkpoints.load import load_llama
from mm_adapter.vision import ImageTower, VisionConfig

VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}


@pytest.fixture(scope="module")
def tower_name(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny CLIP with random weights in a file."""
    folder = tmp_path_factory.mktemp("clip")
    text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
    settings = {"embed_dim": 16, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": text}
    (folder / "tiny-v2-clip.json").write_text(json.dumps(settings))
    open_clip.add_model_config(folder / "tiny-v2-clip.json")
    torch.manual_seed(0)
    torch.save(open_clip.create_model("tiny-v2-clip").state_dict(), folder / "weights.pt")
    return f"tiny-v2-clip/{folder / 'weights.pt'}"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A file in the original's layout for the tiny model."""
    llama = load_llama(str(tiny_folder)).model.config
    shape = {"query_width": 8, "query_heads": 2, "query_inner": 16, "query_blocks": 2, "image_size": 16}
    config = AdapterConfig(
        3, 5, image_prompts="query", biases=True, norms=True, lora_rank=2, prompt_scale=True, **shape
    )
    adapter = Adapter(config, llama)
    with torch.no_grad():
        for weight in adapter.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    path = tmp_path_factory.mktemp("v2") / "LORA-BIAS-tiny.pth"
    flags = {"w_bias": True, "w_lora": True, "lora_rank": 2}
    torch.save({"model": official_v2_tensors(adapter, llama), "config": flags}, path)
    return path


@pytest.fixture
def converted(
    command: Callable[..., Any], checkpoint: Path, tower_name: str, tiny_folder: Path, tmp_path: Path
) -> Path:
    """The checkpoint as an adapter of ours."""
    out = tmp_path / "converted"
    where = ["--adapter", checkpoint, "--llama", tiny_folder, "--vision", tower_name, "--query-heads", 2, "--out", out]
    outcome = command("convert", "--from", "official-v2", *where)
    assert outcome.status == 0, outcome.err
    for said in ("red and blue of every picture are swapped", "all-zero", "Alpaca", "--temperature 0.1 --top-p 0.75"):
        assert said in outcome.out
    return out


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture of coloured noise."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    pixels[..., 0] //= 4
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_it_does_what_adapters_do(command: Callable[..., Any], converted: Path, picture: Path, tmp_path: Path) -> None:
    """Answers, generates, chats, is inspected and evaluated, with and without a picture."""
    asked = ["--question", "Which?", "--choices", "red", "blue"]
    for image in ([], ["--image", picture]):
        answered = command("answer", "--adapter", converted, *asked, *image)
        assert answered.status == 0, answered.err
        written = command("generate", "Say", "--adapter", converted, "--max-new-tokens", 3, *image)
        assert written.status == 0, written.err
    chat = ChatSession(MultimodalLlama.from_pretrained(adapter=converted), GenerationConfig(3), picture)
    assert len("".join(chat.reply("Say"))) > 0
    found = json.loads(command("inspect", converted, "--json").out)
    assert found["usable"], found
    told = {key: found[key] for key in ("image_prompts", "no_image", "channel_order", "rank")}
    assert told == {"image_prompts": "query", "no_image": "zero-picture", "channel_order": "bgr", "rank": 2}
    rows = [{"instruction": "Name it.", "input": "", "output": "red", "image": str(picture)}]
    rows += [{"instruction": "Say a.", "input": "", "output": "a"}]
    (tmp_path / "said.json").write_text(json.dumps(rows))
    where = ["--data", tmp_path / "said.json", "--split", "all", "--out", tmp_path / "scores"]
    where += ["--features", tmp_path / "features"]
    evaluated = command("evaluate", "--adapter", converted, *where, "--quiet")
    assert evaluated.status == 0, evaluated.err
    assert json.loads(command("inspect", next((tmp_path / "features").iterdir()), "--json").out)["width"] == 16


def test_no_picture_is_an_all_zero_one_and_colours_are_swapped(converted: Path, picture: Path, tower_name: str) -> None:
    """Logits without a picture are those of zeros behind the normalisation; the tower is shown blue for red."""
    model = MultimodalLlama.from_pretrained(adapter=converted)
    plain = ImageTower(VisionConfig(tower_name, depths=0, output="tokens"))
    zeros = plain.encode(torch.zeros(1, 1, 3, 32, 32))
    swapped = Image.fromarray(np.asarray(Image.open(picture))[:, :, ::-1].copy())
    seen = model.image_features(picture)
    assert torch.equal(seen, plain.encode(plain.preprocess(swapped)[None]))
    assert not torch.equal(seen, plain.encode(plain.preprocess(Image.open(picture))[None]))
    tokens = torch.tensor([[3, 7, 11], [4, 8, 12]])
    with torch.no_grad():
        alone, shown = model(tokens), model(tokens, zeros.expand(2, -1, -1))
        mixed = model(tokens, seen.expand(2, -1, -1), torch.tensor([True, False]))
        pictured = model(tokens, seen.expand(2, -1, -1))
    assert torch.allclose(alone, shown, atol=1e-5)
    assert torch.allclose(mixed[0], pictured[0], atol=1e-5)
    assert torch.allclose(mixed[1], shown[1], atol=1e-5)
    assert not torch.allclose(pictured, shown, atol=1e-3)


def test_saved_again_it_is_the_same(converted: Path, tmp_path: Path) -> None:
    """Channel order, output and what stands for a missing picture are kept."""
    MultimodalLlama.from_pretrained(adapter=converted).save_pretrained(tmp_path / "again")
    first, again = (
        json.loads((folder / "adapter_config.json").read_text()) for folder in (converted, tmp_path / "again")
    )
    assert first == again


def test_options_that_say_nothing(
    refused: Callable[..., str], checkpoint: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """Heads and tower are of official-v2 alone; a tower of another width is refused, nothing is written."""
    where = ["--adapter", checkpoint, "--llama", tiny_folder, "--out", tmp_path / "out"]
    assert "--query-heads" in refused("convert", "--from", "official", "--query-heads", 2, *where)
    assert "--vision is of official-v2" in refused("convert", "--from", "official", "--vision", "x", *where)
    assert "--from official-v2" in refused("convert", "--from", "official", *where)
    assert "name them with --query-heads" in refused("convert", "--from", "official-v2", *where)
    wrong = ["--vision", "efficientnet-lite0", "--query-heads", 2]
    assert "takes tokens of width 16, the tower efficientnet-lite0 gives 1280" in refused(
        "convert", "--from", "official-v2", *wrong, *where
    )
    assert not (tmp_path / "out").exists()
