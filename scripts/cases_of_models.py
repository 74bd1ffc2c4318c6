"""Cases of base models, adapters of other projects, image towers and the command line: what each must give."""

import json
import os
import shutil
from pathlib import Path
from unittest.mock import patch

import torch
from case_commands import attempt, case, refused, refuses, run, score, succeeds, tiny_run
from PIL import Image

from mm_adapter.core.images import open_image
from mm_adapter.data.readers import read_dataset
from mm_adapter.llama.checkpoints.load import load_llama


def logits_of_transformers(folder: str, ids: torch.Tensor) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()(ids).logits


def same_logits(folder: str) -> None:
    """Hold our logits against those of transformers, or take a refusal by name."""
    ids = torch.randint(3, 250, (1, 40), generator=torch.Generator().manual_seed(0))
    base, message = attempt(lambda: load_llama(folder))
    if base is None:
        assert folder in message, message
        return
    with torch.no_grad():
        ours = base.model(ids)
    theirs = logits_of_transformers(folder, ids)
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max(), float((ours - theirs).abs().max())


@case
def D1() -> None:
    for name in ("tied_own_head", "tied_copy", "untied_none"):
        same_logits(f"D1/{name}")


@case
def D3() -> None:
    begins = {}
    for name in ("flag_true", "template_flag_false", "sp_flag_false"):
        facts = json.loads(run("inspect", f"D3/{name}", "--json")[1])
        begins[name] = json.dumps(facts)
    tokenizer = load_llama("D3/sp_flag_false").tokenizer
    assert tokenizer is not None
    assert tokenizer.begin == (), begins["sp_flag_false"]


@case
def D5() -> None:
    for name in ("generation", "strftime"):
        succeeds("generate", "--adapter", "none", "--llama", f"D5/{name}", "hi", "--max-new-tokens", 4)


@case
def D6() -> None:
    for path in sorted(Path("D6").glob("*/*.gguf")):
        status, said = run("inspect", path)
        assert status == 0 or "part" in said, (path, said)


@case
def D7() -> None:
    for name in ("safetensors", "shards", "tokenizer", "tokenizerjson", "config", "bin", "meta", "x.gguf"):
        status, said = run("inspect", f"D7/{name}")
        assert status == 2, (name, said)
        assert "git lfs pull" in said.lower(), (name, said)
    refuses("score", "--predictions", "A9/result.json", "--data", "D7/D_problems", says="git lfs pull")
    refuses("features", "--vision", "efficientnet-lite0", "--data", "D7/D", "--out", "S", says="git lfs pull")
    refused(lambda: read_dataset("D7/parquet"), "git lfs pull")
    refused(lambda: open_image("D7/image.png"), "git lfs pull")


@case
def D8() -> None:
    for folder in sorted(Path("D8").iterdir()):
        same_logits(str(folder))


@case
def D9() -> None:
    status, said = run("inspect", "D9/smaug.gguf")
    assert status == 0 or "smaug-bpe" in said, said


@case
def E2() -> None:
    for folder in sorted(path for path in Path("E2").iterdir() if path.is_dir()):
        status, said = run(
            "convert", "--from", "peft", "--adapter", folder, "--llama", "TINY", "--out", f"O{folder.name}"
        )
        assert status in (0, 2), said
        assert "Traceback" not in said


@case
def E3() -> None:
    for place in ("lit_model.pth.adapter_v2", "folder_v2", "extra"):
        words = ["--from", "litgpt", "--adapter", f"E3/{place}", "--llama", "TINY", "--out", "O3"]
        said = refuses("convert", *words, says="")
        assert "adapter v2 of litgpt" in said or place == "extra", said


@case
def F1() -> None:
    import open_clip

    from mm_adapter.vision import ImageTower, VisionConfig

    weights = str(Path("b32.pt").absolute())
    torch.manual_seed(0)
    torch.save(open_clip.create_model("ViT-B-32-quickgelu").state_dict(), weights)
    picture = Image.effect_noise((224, 224), 90).convert("RGB")
    with patch.object(open_clip.factory, "download_pretrained", lambda *_, **__: weights):
        found = [
            (lambda tower: tower.encode(tower.preprocess(picture)[None]))(ImageTower(VisionConfig(name, 1)))
            for name in ("ViT-B-32/openai", "ViT-B-32-quickgelu/openai", f"ViT-B-32-quickgelu/{weights}")
        ]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    refused(lambda: ImageTower(VisionConfig(f"ViT-B-32/{weights}", 1)), "trained in 2 ways")


@case
def F3() -> None:
    refuses("features", "--vision", "local-dir:nowhere", "--data", "D", "--out", "S", says="does not exist")


@case
def G1() -> None:
    for words in (["generate", "--adapter", "none", "--llama", "TINY", "caf\udce9", "--max-new-tokens", 4],):
        refuses(*words, says="")


@case
def G3() -> None:
    succeeds("--version", says="mm-adapter")
    home = Path("home").absolute()
    home.mkdir()
    shutil.copytree("D", home / "D")
    with patch.dict(os.environ, {"HOME": str(home)}):
        score("--predictions", "A9/result.json", "--data=~/D")


@case
def X_fingerprint() -> None:
    Path("chat.jsonl").write_text("\n".join(json.dumps({"question": f"q{i}?", "answer": "a"}) for i in range(6)))
    tiny_run("RF")
    for base in ("D8/linear_new", "D3/template_flag_false"):
        words = ["--adapter", "RF", "--llama", base, "--question", "q1?", "--choices", "a", "b"]
        refuses("answer", *words, says="RF")


@case
def X_folder() -> None:
    words = ["--preset", "alpaca-smollm2", "--llama", "TINY", "--layers", 2, "--data", "X_folder/folder", "--epochs", 1]
    succeeds("train", *words, "--out", "RX", "--vision", "efficientnet-lite0", "--quiet", says="16 with a picture")


@case
def X_pil() -> None:
    for path in sorted(Path("X_pil").glob("*.*g")):
        expected = open_image(path).tobytes()
        assert open_image(Image.open(path)).tobytes() == expected, path
        assert open_image(path.read_bytes()).tobytes() == expected, path


@case
def X_table() -> None:
    words = ["--preset", "demo", "--llama", "TINY", "--layers", 2, "--data", "X_table/qa_image_path.csv", "--epochs", 1]
    succeeds("train", *words, "--out", "RT", "--quiet", says="16 with a picture")


@case
def X_wheel() -> None:
    import mm_adapter

    assert mm_adapter.data.__name__ == "mm_adapter.data"
