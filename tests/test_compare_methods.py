"""The comparison of methods, run as a person would, at a size of seconds."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "compare_methods.py"


def test_one_row_for_each_method(tiny_folder, tmp_path):
    """Base, adapter, LoRA and full fine-tuning on the same steps, each with what it trains, weighs and reaches."""
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "val", "test"):
        records = [{"instruction": f"Say {n}.", "output": "Yes."} for n in range(8)]
        (data / f"{split}.json").write_text(json.dumps(records))
    preset = tmp_path / "small.toml"
    settings = ['task = "conversations"', 'vision = "none"', "layers = 2", "prompt_length = 3"]
    preset.write_text("\n".join([*settings, "base_lr = 1.0", "epochs = 2.0"]))
    where = ["--data", data, "--preset", preset, "--llama", tiny_folder, "--out", tmp_path / "out"]
    command = [sys.executable, SCRIPT, *where, "--full-lr", "0.05", "--json", tmp_path / "rows.json"]
    outcome = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    rows = {row["method"]: row for row in json.loads((tmp_path / "rows.json").read_text())["rows"]}
    assert list(rows) == ["base", "adapter", "lora", "full"]
    assert rows["adapter"]["parameters"] < rows["lora"]["parameters"] < rows["full"]["parameters"]
    assert rows["adapter"]["megabytes"] < rows["full"]["megabytes"]
    assert len({rows[name]["steps"] for name in ("adapter", "lora", "full")}) == 1
    assert all(rows[name]["test_loss"] < rows["base"]["test_loss"] for name in ("adapter", "full"))
    table = (tmp_path / "out" / "methods.md").read_text()
    assert table.strip() == outcome.stdout.strip()
    assert f"| full | {rows['full']['parameters']:,} |" in table
