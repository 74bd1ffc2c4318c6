"""The documentation's table of rules is true: each example is read by its rule, and by the projects that it names."""

import re
from pathlib import Path

import pytest

from mm_adapter.eval.parsing import read_choice
from mm_adapter.eval.source_rules import RULES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
OPTIONS = ("chiasmus", "apostrophe", "simile")


def rows(head: str) -> list[list[str]]:
    """Return the rows of the table of the page that begins with ``head``."""
    lines = PAGE[PAGE.index(head) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]


def text_of(cell: str) -> str:
    return re.fullmatch("`(.*)`", cell)[1].replace("⏎", "\n")  # type: ignore[index]


@pytest.mark.parametrize("row", rows("| rule | example | LLaVA | lmms-eval | VLMEvalKit |"), ids=lambda row: row[1])
def test_each_example_is_read_by_its_rule(row: list[str]) -> None:
    rule, example = text_of(row[0]), text_of(row[1])
    assert read_choice(example, OPTIONS) == (1, rule)
    named = [tool for tool, said in zip(("LLaVA", "lmms-eval", "VLMEvalKit"), row[2:], strict=True) if said == "yes"]
    assert named == [tool for tool, read in RULES.items() if read(example, OPTIONS) == 1]


@pytest.mark.parametrize("row", rows("| why | example |"), ids=lambda row: row[1])
def test_what_answers_nothing(row: list[str]) -> None:
    assert read_choice(text_of(row[1]), OPTIONS) == (-1, "")
