"""Requests as jobs: what is asked becomes token ids as an adapter was taught, and is checked before it waits.

An adapter that was trained on questions takes a chat's last user message for a question. It was taught no conversation:
earlier turns are not read, and what the system says is the question's context. The base model, and adapters that were
trained on conversations, read the whole chat, as ``mm-adapter chat`` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mm_adapter.core.errors import UserError
from mm_adapter.data.conversation import ASSISTANT, USER, ConversationTemplate, Turn
from mm_adapter.data.encoding import encode_later_request, encode_question, encode_request, encode_said
from mm_adapter.data.question import Question
from mm_adapter.inference.answer import FREE_LENGTH, check_choices, free_prompt
from mm_adapter.inference.decoding import longest_sequence
from mm_adapter.inference.generation import Sampling
from mm_adapter.inference.prompting import ConversationPrompting
from mm_adapter.model import MultimodalLlama
from mm_adapter.serving.jobs import ChooseJob, Job, Picture, WriteJob
from mm_adapter.serving.limits import Limits

SYSTEM = "system"
_ALIKE = ("sampling", "stop_strings", "scores", "gate_scale", "attention")  # the same in all texts on a prompt


@dataclass(frozen=True)
class Said:
    """A message of a chat.

    Attributes:
        role: ``system``, ``user`` or ``assistant``.
        text: of it.
    """

    role: str
    text: str


@dataclass(frozen=True)
class Writing:
    """How a text is to be written.

    Attributes:
        limit: tokens; it ends earlier where the model has no more room.
        sampling: how tokens are chosen.
        seed: of the draws; None for another text each time.
        stop_strings: that end it.
        scores: return log-probabilities, and those of this many likeliest tokens; None for none.
        score_prompt: also those of the prompt.
        count: texts on the same prompt, each with a seed of its own from ``seed`` on.
        gate_scale, attention: see ``Job``.
    """

    limit: int
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None
    stop_strings: Sequence[str] = ()
    scores: int | None = None
    score_prompt: bool = False
    count: int = 1
    gate_scale: float = 1.0
    attention: bool = False


def question_job(
    name: str,
    model: MultimodalLlama,
    limits: Limits,
    question: str,
    choices: Sequence[str] | None = None,
    context: str = "",
    picture: Picture | None = None,
    max_new_tokens: int | None = None,
    gate_scale: float = 1.0,
    attention: bool = False,
) -> Job:
    """Return the job of a question: its likeliest option, or without choices a text.

    Args:
        gate_scale, attention: see ``Job``.

    Raises:
        UserError: fewer than two choices, a question that does not fit, a picture that the model does not take, gates
            that cannot be scaled, or attention to prompts that the model has none of.
    """
    check_text(limits, question, context, *(choices or ()))
    _check_picture(name, model, picture)
    options = check_choices(choices, explain=False)
    asked = Question("of the request", question, options or ("",), answer=-1, context=context)
    if options is not None:
        encoded = encode_question(asked, model.template, model.tokenizer, model.max_length)
        check_gates(name, model, gate_scale, attention)
        return ChooseJob(name, picture, question=encoded, gate_scale=gate_scale, attention=attention)
    prompt = free_prompt(model, asked)
    limit = FREE_LENGTH if max_new_tokens is None else max_new_tokens
    writing = Writing(limit, gate_scale=gate_scale, attention=attention)
    return writing_jobs(name, model, limits, prompt, writing, picture)[0]


def chat_prompt(name: str, model: MultimodalLlama, limits: Limits, messages: Sequence[Said]) -> list[int]:
    """Return the ids that a chat is put as, up to where the model answers.

    Raises:
        UserError: turns in another order than user and assistant by turns, the user last, or no room for them.
    """
    check_text(limits, *(message.text for message in messages))
    system, exchanges, request = _turns(messages)
    if asks_questions(model):
        asked = Question("of the chat", request, ("",), answer=-1, context=system)
        return list(free_prompt(model, asked))
    tokenizer, template, ids = model.tokenizer, model.conversation_template, list[int]()
    for number, (said, answer) in enumerate([*exchanges, (request, None)]):
        turn = Turn(USER, said) if number else _first_turn(system, said, template)
        ids += (encode_later_request if number else encode_request)(turn, template, tokenizer)
        if answer is not None:
            ids += [*encode_said(tokenizer, answer), tokenizer.end]
    return ids


def _first_turn(system: str, said: str, template: ConversationTemplate) -> Turn:
    """Return the first request; what the system says opens it where the template has no place for that."""
    if not system or not template.system_refusal:
        return Turn(USER, said, system=system)
    return Turn(USER, f"{system}\n\n{said}")


def asks_questions(model: MultimodalLlama) -> bool:
    """Tell whether a model takes a chat's last message for a question: an adapter that was trained on questions."""
    return model.adapter is not None and not isinstance(model.prompting, ConversationPrompting)


def text_prompt(model: MultimodalLlama, limits: Limits, prompt: str | Sequence[int]) -> list[int]:
    """Return the ids of a prompt that is continued as it stands, as ``mm-adapter generate --raw`` does.

    Args:
        prompt: text, before which the model's begin token is put, or ids, which are taken as they are.

    Raises:
        UserError: it is empty, or an id is none of the model's.
    """
    if isinstance(prompt, str):
        check_text(limits, prompt)
        return [*model.tokenizer.begin, *model.tokenizer.encode(prompt)]
    size = model.llama.config.vocab_size
    for token in prompt:
        if not 0 <= token < size:
            raise UserError(f"the prompt has the token id {token}; the model's are 0 to {size - 1}.")
    return list(prompt)


def writing_jobs(
    name: str,
    model: MultimodalLlama,
    limits: Limits,
    prompt: Sequence[int],
    writing: Writing,
    picture: Picture | None = None,
) -> list[WriteJob]:
    """Return the jobs of the texts that are wanted on one prompt.

    Raises:
        UserError: the prompt is empty or has no room, more is wanted than may be, or the model takes no picture.
    """
    _check_picture(name, model, picture)
    check_gates(name, model, writing.gate_scale, writing.attention)
    if writing.limit > limits.new_tokens:
        raise UserError(f"{writing.limit} new tokens are asked for; at most {limits.new_tokens} are possible.")
    if writing.count > limits.choices:
        raise UserError(f"{writing.count} texts are asked for; at most {limits.choices} are possible at a time.")
    if not prompt:
        raise UserError("an empty prompt cannot be continued; give some text.")
    room = min(longest_sequence(model.llama), limits.tokens) - len(prompt)
    if room < min(1, writing.limit):
        raise ContextFull(
            f"the prompt has {len(prompt)} tokens, and there is room for {room + len(prompt)} with what is written. "
            "Shorten it."
        )
    jobs = []
    for number in range(writing.count):
        more: dict[str, Any] = {name: getattr(writing, name) for name in _ALIKE}
        seed = None if writing.seed is None else (writing.seed + number) % (1 << 63)
        limit = min(writing.limit, room)
        jobs.append(
            WriteJob(name, picture, prompt=prompt, limit=limit, seed=seed, score_prompt=writing.score_prompt, **more)
        )
    return jobs


class ContextFull(UserError):
    """A prompt has no room in the model's context."""


def check_text(limits: Limits, *texts: str) -> None:
    """Refuse texts that are too long, or no Unicode.

    Raises:
        UserError: they are.
    """
    length = sum(map(len, texts))
    if length > limits.characters:
        raise UserError(f"the texts have {length:,} characters; at most {limits.characters:,} are taken. Shorten them.")
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"a text is no Unicode: half a character stands at place {error.start}. Remove it."
            ) from None


def taken(model: MultimodalLlama) -> dict[str, bool]:
    """Return what may be in a request to a model: a picture, a gate scale, the wish to see its attention to prompts."""
    adapter = model.adapter
    return {
        "image": adapter is not None and adapter.config.image_size > 0,
        "gate_scale": adapter is not None and adapter.ungated is None,
        "attention": adapter is not None and adapter.gates is not None,
    }


def check_gates(name: str, model: MultimodalLlama, gate_scale: float, attention: bool) -> None:
    """Refuse what a model without gates has no answer to.

    Raises:
        UserError: its gates cannot be scaled, or it has no gated prompts that could be looked at.
    """
    if gate_scale != 1:
        try:
            model.with_gates(gate_scale)
        except UserError as reason:
            raise UserError(f"{name}: {reason} Leave gate_scale out.") from None
    if attention and not taken(model)["attention"]:
        raise UserError(f"{name} has no gated prompts, so there is no attention to them; leave attention out.")


def _check_picture(name: str, model: MultimodalLlama, picture: Picture | None) -> None:
    if picture is None:
        return
    if model.adapter is None:
        raise UserError(f"{name} takes no pictures; name an adapter that was trained with an image tower.")
    if model.adapter.config.image_size == 0:
        raise UserError(f"{name} takes no pictures: its adapter was trained without an image tower.")


def _turns(messages: Sequence[Said]) -> tuple[str, list[tuple[str, str]], str]:
    """Return what the system says, the exchanges, and the request that is to be answered.

    Raises:
        UserError: they stand in another order.
    """
    system = "\n".join(message.text for message in messages if message.role == SYSTEM)
    rest = [message for message in messages if message.role != SYSTEM]
    wanted = [USER if number % 2 == 0 else ASSISTANT for number in range(len(rest))]
    if len(rest) % 2 == 0 or [message.role for message in rest] != wanted:
        raise UserError("the messages must be of user and assistant by turns, and end with one of the user.")
    if not rest[-1].text.strip():
        raise UserError("the last message is empty; ask something.")
    exchanges = [(said.text, answer.text) for said, answer in zip(rest[::2], rest[1::2], strict=False)]
    return system, exchanges, rest[-1].text
