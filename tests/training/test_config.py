"""Settings come from presets, files and options; whatever is wrong with one is said by its name."""

from dataclasses import replace

import pytest

from mm_adapter.core.errors import UserError
from mm_adapter.training.checked import RENAMED, with_new_names
from mm_adapter.training.config import TrainingConfig, fields_by_key, load_config, override, preset_names


def test_all_presets_load():
    """A preset that comes with the package and does not load helps nobody."""
    assert preset_names() == ["alpaca-7b", "alpaca-smollm2", "demo", "easy-vqa", "paper-7b", "smollm2"]
    assert all(isinstance(load_config(name), TrainingConfig) for name in preset_names())


@pytest.mark.parametrize(("preset", "task"), [("paper-7b", "auto"), ("alpaca-7b", "conversations")])
def test_paper_presets_are_the_paper(preset, task):
    """The published settings, and the rate that was really used: 9e-3 is for 256 samples."""
    paper = load_config(preset)
    assert (paper.prompt_length, paper.layers, paper.epochs, paper.warmup_epochs) == (10, 30, 5, 2)
    assert (paper.batch_size, paper.weight_decay, paper.task) == (64, 0.02, task)
    assert paper.answer_format == "letter" or task == "conversations"
    assert paper.lr == pytest.approx(9e-3 * 64 / 256)


def test_own_preset_file_then_overrides(tmp_path):
    """A user's file holds, whole numbers serve as floats, and options win over the file."""
    path = tmp_path / "mine.toml"
    path.write_text('layers = 3\nepochs = 2\nvision = "none"\n')
    config = load_config(str(path), {"layers": 4})
    assert (config.layers, config.epochs, config.vision) == (4, 2.0, "none")
    assert isinstance(config.epochs, float)


def test_settings_go_through_json():
    """config.json holds every setting, and gives the same settings again."""
    config = load_config("demo")
    assert override(TrainingConfig(), config.to_json(), "config.json") == config
    assert set(config.to_json()) == set(fields_by_key())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("layrs = 3", "did you mean 'layers'"),
        ('layers = "3"', "layers is '3'; it must be a whole number"),
        ("layers = true", "must be a whole number"),
        ("layers = 2.5", "must be a whole number"),
        ("llama = 3", "must be text"),
        ("cache_states = 1", "must be true or false"),
        ("base_lr = nan", "base_lr is nan"),
        ("epochs = inf", "epochs is inf"),
        ("layers = ", "not a TOML file"),
        ("[layers]\na = 1", "layers is"),
        ("clip = 1.0", "it is now max_grad_norm"),
        ("evaluations = 2.0", "it is now eval_every: epochs between two validations"),
    ],
)
def test_bad_preset_file(tmp_path, text, said):
    """A typo, a wrong type or a value without meaning is named, and where it stands."""
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=said.replace("(", r"\(")) as caught:
        load_config(str(path))
    assert "mine.toml" in str(caught.value)


def test_unknown_preset_suggests_the_nearest():
    """A mistyped preset name is answered with the right one."""
    with pytest.raises(UserError, match="did you mean 'smollm2'"):
        load_config("smolm2")


@pytest.mark.parametrize(
    "values",
    [
        {"layers": 0},
        {"epochs": 0.0},
        {"batch_size": -1},
        {"base_lr": 0.0},
        {"eval_every": 0.0},
        {"weight_decay": -0.1},
        {"max_grad_norm": -1.0},
        {"label_smoothing": 1.0},
        {"ema_decay": 1.0},
        {"ranking_weight": 0.0, "language_weight": 0.0},
        {"ranking_weight": -1.0},
        {"warmup_epochs": 9.0},
        {"dtype": "float8"},
        {"gate_lr_scale": float("nan")},
        {"seed": -1},
        {"seed": 2**64},
    ],
)
def test_values_out_of_range(values):
    """A value that cannot work is refused before anything is loaded, by its name."""
    with pytest.raises(UserError, match=next(iter(values))):
        TrainingConfig(**values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"clip": 3.0}, "there is no setting 'clip' any more; it is now max_grad_norm."),
        ({"wording": "own"}, "there is no setting 'wording' any more; it is now prompt_template."),
        ({"layrs": 3}, "there is no setting 'layrs', did you mean 'layers'?"),
    ],
)
def test_unknown_settings(values, said):
    """A setting that there is not is refused, also by replace."""
    for make in (lambda: TrainingConfig(**values), lambda: replace(TrainingConfig(), **values)):
        with pytest.raises(UserError) as caught:
            make()
        assert str(caught.value) == said


@pytest.mark.parametrize("evaluations", [0.05, 0.1, 0.3, 1.0, 1.5, 2.0, 2.8, 3.0, 6.0, 7.0])
def test_validations_fall_on_the_steps_of_version_0_1(evaluations):
    """Epochs between validations are the inverse of validations per epoch, to the step."""
    config = TrainingConfig(**with_new_names({"evaluations": evaluations}))
    for steps in range(1, 400):
        assert config.steps_between_validations(steps) == max(1, round(steps / evaluations))


def test_saved_settings_are_understood_by_their_old_names():
    """Every key of a run folder of version 0.1 has a place."""
    saved = {"clip": 0.5, "wording": "alpaca", "keep_states": 1, "evaluations": 2.0, "layers": 3}
    assert with_new_names(saved) == {
        "max_grad_norm": 0.5, "prompt_template": "alpaca", "max_states": 1, "eval_every": 0.5, "layers": 3,
    }  # fmt: skip
    assert set(RENAMED.values()) <= set(fields_by_key())
    assert not RENAMED.keys() & fields_by_key().keys()
