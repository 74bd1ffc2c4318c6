"""A grid says what it wants in one file; whatever is wrong with it is said by file and key."""

import pytest

from mm_adapter.ablation.grid import point_name, read_grid, shipped_grids
from mm_adapter.core.errors import UserError
from mm_adapter.training.config import load_config


def test_shipped_grids_are_the_issue():
    """Both compare zero-init with random-init at three depths and three seeds, on the presets' own models."""
    assert shipped_grids() == ["demo", "scienceqa"]
    for name, preset in (("demo", "demo"), ("scienceqa", "smollm2")):
        grid = read_grid(name)
        assert grid.axes == {"attention": ("zero-init", "random-init"), "layers": (5, 15, 30), "seed": (0, 1, 2)}
        assert len(grid.points) == 18
        assert {point.config.llama for point in grid.points} == {load_config(preset).llama}
        assert grid.limits.keys() == {"train", "val", "test"}


def test_points_are_all_combinations_with_readable_names(write_grid):
    """The last key varies fastest, names say the values, settings of the base reach every point."""
    grid = read_grid(write_grid('attention = ["zero-init", "random-init"]\nlayers = [1, 2]'))
    assert [point.name for point in grid.points] == [
        "attention=zero-init,layers=1",
        "attention=zero-init,layers=2",
        "attention=random-init,layers=1",
        "attention=random-init,layers=2",
    ]
    last = grid.points[-1].config
    assert (last.attention, last.layers, last.prompt_length) == ("random-init", 2, 3)
    assert grid.limits == {"train": 12, "val": 4, "test": 6}


def test_images_stands_for_the_tower(write_grid, tmp_path):
    """Without pictures is vision none; with them the base must name a tower."""
    path = tmp_path / "pictures.toml"
    path.write_text("[grid]\nimages = [true, false]\n")
    assert [point.config.vision for point in read_grid(str(path)).points] == ["efficientnet-lite0", "none"]
    with pytest.raises(UserError, match="images=true: images = true needs an image tower"):
        read_grid(write_grid("images = [true]"))


@pytest.mark.parametrize(
    ("axes", "base", "words"),
    [
        ("layer = [1]", "", "no key 'layer', did you mean 'layers'"),
        ("layers = []", "", "layers is \\[\\]; it must be a list"),
        ("layers = 3", "", "layers is 3; it must be a list"),
        ("layers = [1, true]", "", "layers is True; it must be a whole number"),
        ("epochs = [1, 1.0]", "", "epochs has a value twice"),
        ("layers = [0]", "", "layers is 0; it must be at least 1"),
        ('attention = ["zero"]', "", "attention 'zero' is not known, did you mean 'zero-init'"),
        ('answer_format = ["letter"]', "", "shows no options"),
        ("images = [1]", "", "images has 1; true and false"),
        ('images = [true]\nvision = ["none"]', "", "both images and vision"),
        ("", "", "names no setting to vary"),
        ("layers = [1]", "layrs = 2", "no key 'layrs', did you mean 'layers'"),
        ("layers = [1]", 'method = "lora"', "ablations are of adapters"),
        ("layers = [1]", 'task = "conversations"', "ablations are of questions"),
        ("seed = [" + ", ".join(map(str, range(1001))) + "]", "", "1,001 combinations"),
    ],
)
def test_every_mistake_is_named(write_grid, axes, base, words):
    """File and key, with the nearest that there is, before anything is run."""
    with pytest.raises(UserError, match=words) as raised:
        read_grid(write_grid(axes, base))
    assert "tiny.toml" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grdi = 1", "no key 'grdi', did you mean 'grid'"),
        ("train_questions = 0\n[grid]\nseed = [0]", "train_questions is 0"),
        ("base = 3\n[grid]\nseed = [0]", "write it as a table"),
        ("preset = 3", "preset is 3"),
        ('preset = "dmo"', "did you mean 'demo'"),
        ("seed = [0", "not a TOML file"),
    ],
)
def test_a_file_of_another_kind(tmp_path, text, words):
    """Mistakes outside the tables of settings."""
    path = tmp_path / "grid.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_grid(str(path))


def test_unknown_grid():
    """The nearest that comes with the package is suggested."""
    with pytest.raises(UserError, match="did you mean 'scienceqa'"):
        read_grid("sciencqa")


def test_hostile_values_make_safe_and_different_folder_names():
    """No value can leave the folder, hide, or fall together with another one."""
    hostile = ["../../etc", "..-..-etc", "/etc", "a/b", "a\\b", "a:b", "a\nb", "a,layers=3", "x" * 500, "x" * 501, "é"]
    names = [point_name({"llama": value, "seed": 0}) for value in hostile]
    assert len(set(names)) == len(names)
    for name in names:
        assert name.startswith("llama=")
        assert len(name) < 255
        assert not set(name) & set('/\\:*?"<>|\n')
        assert name.isascii()
    assert len(point_name({f"key{index}": "y" * 60 for index in range(20)})) <= 200
