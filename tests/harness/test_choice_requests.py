"""Choices that a harness asks one by one are scored, together, as ``mm-adapter evaluate`` scores options."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from mm_adapter.core.errors import UserError
from mm_adapter.data.encoding import encode_questions
from mm_adapter.data.question import Question
from mm_adapter.data.templates import Prompting
from mm_adapter.harness.choice_requests import ChoiceRequest, choice_losses
from mm_adapter.inference.answer_sets import choose_by_likelihood
from mm_adapter.inference.prompting import ConversationPrompting
from mm_adapter.model import MultimodalLlama
from mm_adapter.scoring.encoded_sets import QuestionSet

Make = Callable[..., MultimodalLlama]

COLOURS = {"red": (250, 10, 10), "blue": (10, 10, 250)}
QUESTIONS = [
    Question("a/test/0", "Which colour?", ("red", "blue", "a dark green"), 0, "It is shown.", Path("red")),
    Question("a/test/1", "Which colour?", ("red", "blue"), 1, "", Path("blue")),
    Question("a/test/2", "What is ice?", ("cold water that is hard", "hot", "a bird", "no"), 0, "Ice melts in sun."),
    Question("b/test/0", "Two and two?", ("four", "five"), 0),
]
KINDS: list[Prompting | ConversationPrompting] = [
    Prompting(),
    Prompting(ranking="sum"),
    Prompting("QCM-A", "text", score_end=True),
    Prompting("CQM-A", "letter"),
    ConversationPrompting("alpaca"),
]


def nothing(document: str) -> None:
    """Show no picture."""


def requests_of(questions: list[Question]) -> list[ChoiceRequest]:
    """Return a request for every option, the last first, as a task with a space before its choices makes them."""
    found = [
        ChoiceRequest(question.pid, place, question.question, f" {option}", question.context)
        for question in questions
        for place, option in enumerate(question.options)
    ]
    return found[::-1]


def shown(model: MultimodalLlama) -> Callable[[str], Tensor | None]:
    """Return what looks at a document's picture."""
    images = {question.pid: question.image for question in QUESTIONS}

    def features(document: str) -> Tensor | None:
        image = images[document]
        return None if image is None else model.image_features(Image.new("RGB", (4, 4), COLOURS[image.name]))

    return features


@pytest.mark.parametrize("prompting", KINDS, ids=str)
def test_losses_are_the_scores_of_evaluation(make_model: Make, prompting: Prompting | ConversationPrompting) -> None:
    """With contexts and pictures, whatever the template and ranking; the lowest loss is the option that is chosen."""
    model = make_model(prompting)
    features = {Path(name): model.image_features(Image.new("RGB", (4, 4), rgb))[0] for name, rgb in COLOURS.items()}
    encoded, _ = encode_questions(QUESTIONS, model.template, model.tokenizer, model.max_length)
    expected = choose_by_likelihood(model, QuestionSet(encoded, features))
    requests = requests_of(QUESTIONS)
    losses = {
        (request.document, request.place): loss
        for request, (loss, _) in zip(requests, choice_losses(model, requests, shown(model), quiet=True), strict=True)
    }
    assert len(losses) == 11
    for question, prediction in zip(QUESTIONS, expected, strict=True):
        own = [losses[question.pid, place] for place in range(len(question.options))]
        assert [-loss for loss in own] == pytest.approx(prediction.scores, abs=1e-5)
        assert own.index(min(own)) == prediction.choice


def test_picture_and_context_are_seen(make_model: Make) -> None:
    """Without them the losses are others."""
    model = make_model()
    requests = requests_of(QUESTIONS[:1])
    whole = choice_losses(model, requests, shown(model), quiet=True)
    blind = choice_losses(model, requests, nothing, quiet=True)
    bare = [ChoiceRequest(one.document, one.place, one.text, one.continuation) for one in requests]
    without = choice_losses(model, bare, shown(model), quiet=True)
    for other in (blind, without):
        assert max(abs(a - b) for (a, _), (b, _) in zip(whole, other, strict=True)) > 1e-3


def test_choices_share_a_pass(make_model: Make) -> None:
    """The question is read once, and a request that is repeated is not read again."""
    model = make_model()
    read: list[int] = []
    model.llama.embedding.register_forward_hook(lambda module, inputs, output: read.append(inputs[0].numel()))
    requests = requests_of(QUESTIONS[2:3])
    once = choice_losses(model, requests, nothing, quiet=True)
    [encoded], _ = encode_questions(QUESTIONS[2:3], model.template, model.tokenizer, model.max_length)
    assert read == [len(encoded.prefix) + sum(map(len, encoded.options))]
    assert choice_losses(model, [*requests, *requests], nothing, quiet=True) == [*once, *once]
    assert read == 2 * read[:1]


@pytest.mark.parametrize(("ranking", "score_end"), [("mean", False), ("sum", True)])
def test_word_for_word(make_model: Make, ranking: str, score_end: bool) -> None:
    """A raw text's choices have the losses of a plain pass over text and choice."""
    model = make_model(Prompting(ranking=ranking, score_end=score_end))
    text, choices = "Ice is ", ["cold", "a bird that sings"]
    requests = [ChoiceRequest("t/test/0", place, text, choice) for place, choice in enumerate(choices)]
    found = choice_losses(model, requests, nothing, raw=True, quiet=True)
    for choice, (loss, _) in zip(choices, found, strict=True):
        end = [model.tokenizer.end] if score_end else []
        ids = [*model.tokenizer.begin, *model.tokenizer.encode(text + choice), *end]
        with torch.no_grad():
            table = model(torch.tensor([ids]))[0].log_softmax(-1)
        asked = len(ids) - len(choice) - len(end) - 1  # a token a letter; the space goes with the choice
        own = [float(table[place - 1, ids[place]]) for place in range(asked, len(ids))]
        total = sum(own)
        assert loss == pytest.approx(-total / len(own) if ranking == "mean" else -total, abs=1e-4)


def test_greedy_is_what_would_be_written(make_model: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice that the model writes itself is greedy; one that begins alike is not, nor is another."""
    model = make_model()
    # Its letters alone can be written, so that text and tokens stand for each other.
    letters = torch.zeros(model.llama.config.vocab_size, dtype=torch.bool)
    letters[model.tokenizer.encode("".join(map(chr, range(33, 127))))] = True
    logits = model.llama.logits
    monkeypatch.setattr(model.llama, "logits", lambda hidden: logits(hidden).masked_fill(~letters, -30.0))
    written = model.generate(["Ice is"], max_new_tokens=5)[0]
    assert model.tokenizer.decode(model.tokenizer.encode_continuation(written)) == written
    texts = (written, f"{written[:4]} ", " cold")
    requests = [ChoiceRequest("t/test/0", place, "Ice is", text) for place, text in enumerate(texts)]
    found = choice_losses(model, requests, nothing, raw=True, quiet=True)
    assert [greedy for _, greedy in found] == [True, False, False]


def test_a_long_raw_text_loses_its_beginning(make_model: Make) -> None:
    """What the model cannot read is cut in front, as other models of the harness do; the choices stay whole."""
    model = make_model()
    text, choice = "".join(chr(97 + place % 26) for place in range(3000)), " ends"
    [(loss, _)] = choice_losses(model, [ChoiceRequest("t/test/0", 0, text, choice)], nothing, raw=True, quiet=True)
    ids = model.tokenizer.encode(text + choice)[-model.llama.config.context_length - 1 :]
    with torch.no_grad():
        table = model(torch.tensor([ids[:-1]]))[0].log_softmax(-1)
    own = [float(table[place - 1, ids[place]]) for place in range(len(ids) - len(choice), len(ids))]
    assert loss == pytest.approx(-sum(own) / len(own), abs=1e-4)


def test_an_explanation_comes_first(make_model: Make) -> None:
    """An adapter that explains before it answers does so here, too."""
    prompting = Prompting("QCM-A", "letter", "solution", explanation_place="before")
    model = make_model(prompting)
    encoded, _ = encode_questions(QUESTIONS[3:], model.template, model.tokenizer, model.max_length)
    [expected] = choose_by_likelihood(model, QuestionSet(encoded))
    losses = choice_losses(model, requests_of(QUESTIONS[3:])[::-1], nothing, quiet=True)
    assert expected.explanation
    assert [-loss for loss, _ in losses] == pytest.approx(expected.scores, abs=1e-5)


def test_what_makes_no_question_is_refused(make_model: Make) -> None:
    """Choices in the text, a single one, a missing one, an empty one: each is named, with what to do."""
    model = make_model()

    def ask(*choices: tuple[int, str, str], raw: bool = False) -> list[tuple[float, bool]]:
        requests = [ChoiceRequest("task/test/7", place, text, choice) for place, text, choice in choices]
        return choice_losses(model, requests, nothing, raw=raw, quiet=True)

    for choices, reason in (
        ([(0, "Is it red", "?"), (1, "Is it blue", "?")], "task/test/7: its choices stand in the text.*prompt=raw"),
        ([(0, "Say", "yes")], "task/test/7: a single continuation"),
        ([(0, "Say", "yes"), (2, "Say", "no")], "task/test/7: some of its choices are missing"),
        ([(0, "Say", "yes"), (1, "Say", " ")], "task/test/7: a choice is empty"),
    ):
        with pytest.raises(UserError, match=reason):
            ask(*choices)
    apart = ask((0, "Is it red", "?"), (1, "Is it blue", "?"), raw=True)
    assert apart[0] == pytest.approx(ask((0, "Is it red", "?"), raw=True)[0], abs=1e-5)
    with pytest.raises(UserError, match="a continuation has no tokens"):
        ask((0, "Say", ""), (1, "Say", "no"), raw=True)
