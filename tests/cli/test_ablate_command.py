"""``mm-adapter ablate`` as a person runs it."""

import sys

import make_ablations

GRID = """
train_questions = 8
val_questions = 4
test_questions = 6
[base]
llama = "{llama}"
vision = "none"
prompt_length = 2
epochs = 1
warmup_epochs = 0
batch_size = 4
max_length = 700
[grid]
attention = ["zero-init", "random-init"]
layers = [{layers}]
"""


def test_grid_to_tables_and_docs(command, refused, tiny_folder, demo_folder, tmp_path, monkeypatch):
    """List, run, read the tables; again nothing is run; the page of several ablations is made from the folder."""
    grid, out = tmp_path / "mine.toml", tmp_path / "out"
    grid.write_text(GRID.format(llama=tiny_folder, layers="1"))
    words = ["ablate", grid, "--data", demo_folder, "--out", out, "--quiet"]
    listed = command(*words, "--dry-run")
    assert listed.out.splitlines() == [
        "to do     attention=zero-init,layers=1",
        "to do     attention=random-init,layers=1",
    ]
    assert not out.exists()
    outcome = command(*words)
    assert outcome.status == 0, outcome.err
    assert "2 of 2 runs" in outcome.out
    assert "83.85" in outcome.out
    assert "not decided" in outcome.out
    for name in ("ablation.md", "ablation.csv", "ablation.json", "runs/attention=zero-init,layers=1/test/result.json"):
        assert (out / name).is_file()
    assert command(*words, "--dry-run").out.count("finished") == 2
    again = command(*words)
    assert again.out == outcome.out
    assert "0 to do" in again.err
    page = tmp_path / "ablations.md"
    monkeypatch.setattr(sys, "argv", ["make_ablations.py", str(out), "--docs", str(page)])
    assert make_ablations.main() == 0
    assert "    mm-adapter ablate mine --data DIR --out OUT --split test" in page.read_text()
    assert str(tmp_path) not in page.read_text().replace(str(tiny_folder), "")
    assert "did you mean 'scienceqa'" in refused("ablate", "scienceq", "--data", demo_folder, "--out", out)


def test_a_failed_point_is_told_by_the_status(command, tiny_folder, demo_folder, tmp_path):
    """The table of the others is printed, and the message says which failed and why."""
    grid = tmp_path / "mine.toml"
    grid.write_text(GRID.format(llama=tiny_folder, layers="1, 9"))
    outcome = command("ablate", grid, "--data", demo_folder, "--out", tmp_path / "out", "--quiet")
    assert outcome.status == 2
    assert "2 of 4 runs are in these tables" in outcome.out
    assert "2 of 4 runs failed" in outcome.err
    assert "the adapter wants 9 layers" in outcome.err
