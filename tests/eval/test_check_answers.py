"""The answer texts of the check are read as a person would, and the check says so in its bars."""

import json
from pathlib import Path

import check_answers
import pytest


def test_every_bar_of_the_check_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, official_folder: Path) -> None:
    arguments = ["check", "--published", str(official_folder), "--json", str(tmp_path / "bars.json")]
    monkeypatch.setattr("sys.argv", arguments)
    assert check_answers.main() == 0
    bars = json.loads((tmp_path / "bars.json").read_text())["bars"]
    assert len(bars) == 5
    assert all(bar["holds"] for bar in bars)


def test_a_reader_that_takes_the_first_letter_misses_the_bars(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check would find a reader that guesses."""

    def first_letter(text: str, options: tuple[str, ...]) -> tuple[int, str]:
        return next((ord(sign) - ord("A") for sign in text if sign in "ABCDE"[: len(options)]), -1), "first"

    monkeypatch.setattr("sys.argv", ["check"])
    monkeypatch.setattr(check_answers, "read_choice", first_letter)
    assert check_answers.main() == 1
    assert "missed: read as a person would, read as another option" in capsys.readouterr().out


def test_forms_are_traps_in_part() -> None:
    texts = check_answers.drawn_texts()
    assert sum(text.choice == -1 for text in texts) >= 0.3 * len(texts)
