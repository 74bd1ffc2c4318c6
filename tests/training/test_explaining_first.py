"""Learning to explain before answering: the loss falls, and no accuracy is claimed that was not measured."""

from pathlib import Path

import pytest

from mm_adapter.ablation.grid import read_grid
from mm_adapter.core.errors import UserError
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.state import check_settings

FIRST = {"template": "QCM-A", "answer_format": "letter", "explanation": "solution", "explanation_place": "before"}


@pytest.mark.parametrize("score_end", [False, True])
def test_training_lowers_the_loss(make_trainer, score_end):
    """Of explanation and answer, on the questions that are learned and on the others."""
    trainer = make_trainer(**FIRST, score_end=score_end, epochs=4.0, max_length=900)
    trainer.run()
    learned = [event["loss"] for event in trainer.log.events if "loss" in event]
    evaluations = [event for event in trainer.log.events if "val_loss" in event]
    assert sum(learned[-2:]) < sum(learned[:2])
    assert evaluations[-1]["val_loss"] < evaluations[0]["val_loss"]
    # Scored after the right explanation, the options would be far too easy.
    assert not any("val_accuracy" in event for event in evaluations)


def test_ablations_refuse_what_they_cannot_compare(tmp_path):
    """Their tables hold validation accuracies: refused before the first run, with a way out."""
    path = tmp_path / "grid.toml"
    path.write_text('[base]\nexplanation = "solution"\n[grid]\nexplanation_place = ["after", "before"]\n')
    with pytest.raises(UserError, match="explanation_place before has no validation accuracy"):
        read_grid(str(path))


def test_runs_from_before_the_choice_go_on():
    """Settings that were saved without the key are those of its default, and of no other value."""
    old = TrainingConfig(explanation="solution").to_json()
    del old["explanation_place"]
    path = Path("config.json")
    check_settings(path, old, TrainingConfig(explanation="solution").to_json())
    with pytest.raises(UserError, match="explanation_place: 'after', now 'before'"):
        check_settings(path, old, TrainingConfig(explanation="solution", explanation_place="before").to_json())
