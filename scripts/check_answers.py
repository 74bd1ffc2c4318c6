"""Answers are read as a person would read them, and never as another option.

    python scripts/check_answers.py [--published FOLDER] [--json FILE]

40 forms of answers, each to 10 questions, make 400 texts. What a person would say is fixed with each form below: the
option that the text was made for, or that the text answers nothing. The questions have two to five options: letters,
numbers, sentences that begin with "A", words that contain each other or differ in one small letter or a sign.

``--published`` is a folder with ``problems.json``, ``predictions_gpt3.json`` (the official result format, with raw
texts) and ``expected_gpt3.json`` (the original evaluator's figures): these figures are the same, and the raw texts are
read as LLaVA's rules read them but for those that are listed below.
"""

import argparse
import json
import string
import sys
from dataclasses import dataclass
from pathlib import Path

from bars import bar, write_bars

from mm_adapter.eval.parsing import read_choice
from mm_adapter.eval.source_rules import llava_choice

REASON = "That is what the picture shows."

READ = {
    "letter": "{L}",
    "letter in brackets": "({L})",
    "small letter": "{l})",
    "bold letter": "**{L}**",
    "quoted letter": '"{L}"',
    "option and letter": "Option {L}",
    "letter and words": "{L}. {words}",
    "letter in brackets and words": "({L}) {words}",
    "words": "{words}",
    "sentence": "The answer is {L}.",
    "sentence, letter and words": "The answer is ({L}) {words}",
    "sentence, bold letter and words": "The correct answer is **{L}) {words}**",
    "heading": "**Answer:**\n\n{L}",
    "markdown heading": "### Answer: {L}",
    "I would choose": "I would choose {L}.",
    "boxed": "\\boxed{{{L}}}",
    "sentence with a box": "The final answer is $\\boxed{{\\text{{{L}}}}}$.",
    "answer tag": "<answer>{L}</answer>",
    "JSON": '```json\n{{"answer": "{L}"}}\n```',
    "closed reasoning": "<think>Could it be {M}? The answer is {M}.</think>\n{L}",
    "reasoning begun in the prompt": "It may be {M}.\n</think>\n\nThe answer is {L}.",
    "end token": "{L}</s>",
    "chat tokens": "<|im_start|>assistant\n{L}<|im_end|>",
    "role": "ASSISTANT: {L}",
    "letter, words, explanation": "{L}. {words}\n" + REASON,
    "letter, explanation": "{L}\n\n" + REASON,
    "explanation, answer": REASON + "\n\nAnswer: {L}",
    "one is wrong": "{M} is wrong because the picture shows something else, so the answer is {L}.",
}
UNREAD = {
    "two letters": "{L} or {M}",
    "sentence with two letters": "The answer is {L} or {M}.",
    "two sentences": "The answer is {L}. The answer is {M}.",
    "letter with other words": "{L}. {other}",
    "denial": "The answer is not {L}.",
    "wrong": "{L} is wrong.",
    "doubt": "I doubt that the answer is {L}.",
    "unclosed reasoning": "<think>The answer is {L}.",
    "a list": "{listed}",
    "refusal": "I cannot answer this question without the picture.",
    "article": "A picture would be needed to say.",
    "letter beyond the options": "The answer is {beyond}.",
}

QUESTIONS: tuple[tuple[tuple[str, ...], int], ...] = (
    (("chiasmus", "apostrophe", "simile"), 1),
    (("2", "3", "5", "8"), 2),
    (("G", "g"), 1),
    (("A plant needs water.", "A rock needs water.", "Both need water."), 0),
    (("the plant", "the plant and the soil", "the soil"), 1),
    (("yes", "no"), 0),
    (("Asia", "Africa", "Europe", "Antarctica", "North America"), 4),
    (("Dear Ms. Lee,", "dear Ms. Lee,"), 0),
    (("-5°C", "5°C"), 0),
    (("conduction", "convection", "radiation", "none of these"), 3),
)

TWICE = "the same answer stands twice, and LLaVA's rules take one alone"
LISTED = dict.fromkeys(("14376", "17176", "19351", "20340"), TWICE)
"""Published texts that LLaVA's rules read otherwise than ours: pid -> why."""


@dataclass(frozen=True)
class Text:
    """One answer text.

    Attributes:
        form: name of its form.
        text, options: what is read, beside what.
        choice: what a person would say; -1 for nothing.
    """

    form: str
    text: str
    options: tuple[str, ...]
    choice: int


def drawn_texts() -> list[Text]:
    """Return every form of every question."""
    texts = []
    for number, (options, right) in enumerate(QUESTIONS):
        wrong = (right + 1 + number % (len(options) - 1)) % len(options)
        letters = string.ascii_uppercase
        fields = {
            "L": letters[right],
            "l": letters[right].lower(),
            "M": letters[wrong],
            "words": options[right],
            "other": options[wrong],
            "listed": "\n".join(f"{letter}. {option}" for letter, option in zip(letters, options, strict=False)),
            "beyond": letters[len(options) + 1],
        }
        texts += [Text(form, pattern.format(**fields), options, right) for form, pattern in READ.items()]
        texts += [Text(form, pattern.format(**fields), options, -1) for form, pattern in UNREAD.items()]
    return texts


def published(folder: Path) -> tuple[int, int, dict[str, tuple[int, int]]]:
    """Return official figures that differ, texts, and pid -> (choice here, choice by LLaVA) where these differ."""
    from mm_adapter.data.readers import read_dataset
    from mm_adapter.eval.system import read_system

    problems = json.loads((folder / "problems.json").read_text(encoding="utf-8"))
    expected = json.loads((folder / "expected_gpt3.json").read_text(encoding="utf-8"))
    system = read_system(folder / "predictions_gpt3.json", read_dataset(folder).split("test"))
    changed = sum(system.metrics.official.get(key) != value for key, value in expected.items())
    texts = {pid: found.raw_text for pid, found in system.predictions.items() if found.raw_text}
    differing = {}
    for pid, text in texts.items():
        options = problems[pid]["choices"]
        asked = problems[pid]["question"]
        here, there = read_choice(text, options, asked)[0], llava_choice(text, options)
        if here != there:
            differing[pid] = (here, there)
    return changed, len(texts), differing


def main() -> int:
    """Read all texts, print what differs, write the bars."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--published", type=Path, help="folder with published answers and the original figures")
    parser.add_argument("--json", type=Path, help="write the bars to this file")
    options = parser.parse_args()
    texts = drawn_texts()
    alike = wrong = by_llava = 0
    for text in texts:
        choice, rule = read_choice(text.text, text.options)
        alike += choice == text.choice
        wrong += choice not in (text.choice, -1)
        by_llava += llava_choice(text.text, text.options) == text.choice
        if choice != text.choice:
            print(f"{text.form}: {text.text!r} of {text.options}: {choice} ({rule}), a person says {text.choice}")
    print(
        f"{len(texts)} texts of {len(READ) + len(UNREAD)} forms: {alike} as a person would, {wrong} as another option"
    )
    print(f"LLaVA's rules: {by_llava} as a person would")
    bars = [
        bar("texts", len(texts), 400, len(texts) == 400),
        bar("read as a person would", alike / len(texts), 0.99, alike / len(texts) >= 0.99),
        bar("read as another option", wrong, 0, wrong == 0),
    ]
    if options.published is not None:
        changed, count, differing = published(options.published)
        unlisted = {pid: choices for pid, choices in differing.items() if pid not in LISTED}
        print(
            f"published: {changed} figures differ; {len(differing)} of {count} texts are not read as LLaVA reads them"
        )
        for pid, (here, there) in differing.items():
            print(f"  {pid}: {here} here, {there} by LLaVA's rules: {LISTED.get(pid, 'NOT LISTED')}")
        bars.append(bar("published figures that differ", changed, 0, changed == 0))
        bars.append(bar("published texts unlike LLaVA's, not listed", len(unlisted), 0, not unlisted))
    missed = [found["name"] for found in bars if not found["holds"]]
    print("every bar holds" if not missed else f"missed: {', '.join(map(str, missed))}")
    if options.json is not None:
        write_bars(options.json, bars)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
