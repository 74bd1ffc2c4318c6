"""Requests as they come over HTTP: OpenAI's, and our own for questions with options."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mm_adapter.inference.generation import Sampling
from mm_adapter.serving.prompts import Said, Writing

_HARMLESS = {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "parallel_tool_calls": (True, False),
    "best_of": (1,),
    "suffix": ("",),
    "modalities": (["text"],),
}
"""What clients send although it changes nothing: field -> values that mean as much."""

Number = Annotated[float, Field(allow_inf_nan=False)]
Gates = Annotated[Number | None, Field(ge=0, le=1)]
"""What an adapter's gates are multiplied by."""
Text = Annotated[str, Field(description="Unicode; control tokens that are spelled in it stay text.")]


class Fields(BaseModel):
    """A request; a field that is not known is refused, unless it changes nothing."""

    model_config = ConfigDict(extra="allow", strict=True, json_schema_extra={"additionalProperties": False})

    @model_validator(mode="after")
    def _refuse_unknown(self) -> "Fields":
        for name, value in (self.model_extra or {}).items():
            if value is not None and name not in _HARMLESS and value not in _NEUTRAL.get(name, ()):
                raise ValueError(f"field {name!r:.60} is not supported with this value; leave it out")
        return self


class StreamOptions(BaseModel):
    """What a stream says besides text."""

    include_usage: bool | None = None


class WritingFields(Fields):
    """How a text is written; what is absent or null has its default. Without a temperature nothing is drawn."""

    model: str = Field(description="Name of an adapter, or base; see /v1/models.")
    temperature: Number | None = Field(None, ge=0, le=100)
    top_p: Number | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    repetition_penalty: Number | None = Field(None, ge=0.01, le=100)
    seed: int | None = None
    gate_scale: Gates = Field(None, description="Ours: from 0 (the base model) to 1 (the adapter, the default).")
    stop: str | list[str] | None = Field(None, description="Strings that end the text.")
    n: int | None = Field(None, ge=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def writing(self, limit: int, scores: int | None, score_prompt: bool = False) -> Writing:
        """Return how the text is to be written.

        Raises:
            UserError: a value out of range.
        """
        chosen = {"top_p": self.top_p, "top_k": self.top_k, "repetition_penalty": self.repetition_penalty}
        sampling = Sampling(self.temperature or 0.0, **{name: v for name, v in chosen.items() if v is not None})  # type: ignore[arg-type]
        seed = None if self.seed is None else self.seed % (1 << 63)
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        scale = 1.0 if self.gate_scale is None else self.gate_scale
        return Writing(limit, sampling, seed, stops, scores, score_prompt, self.n or 1, scale)

    @model_validator(mode="after")
    def _check_stops(self) -> "WritingFields":
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > 16 or any(not 0 < len(stop) <= 200 for stop in stops):
            raise ValueError("stop takes up to 16 strings of 1 to 200 characters")
        return self

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends by saying how many tokens there were."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class ImageUrl(BaseModel):
    """Where a picture is: in the request itself."""

    url: str = Field(description="data:image/png;base64,...; nothing is fetched.")
    detail: str | None = None


class Part(BaseModel):
    """A part of a message."""

    type: Literal["text", "image_url"]
    text: Text | None = None
    image_url: ImageUrl | None = None

    @model_validator(mode="after")
    def _has_content(self) -> "Part":
        if getattr(self, self.type) is None:
            raise ValueError(f"a part of type {self.type} needs {self.type}")
        return self


class Message(BaseModel):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[Part]

    def said(self) -> Said:
        """Return its words; its text parts stand on lines of their own."""
        parts = self.content if isinstance(self.content, list) else [Part(type="text", text=self.content)]
        words = "\n".join(part.text for part in parts if part.text is not None)
        return Said("system" if self.role == "developer" else self.role, words)

    def pictures(self) -> list[str]:
        """Return the URIs of its pictures."""
        parts = self.content if isinstance(self.content, list) else []
        return [part.image_url.url for part in parts if part.image_url is not None]


class ChatRequest(WritingFields):
    """``POST /v1/chat/completions``."""

    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @model_validator(mode="after")
    def _check_pictures(self) -> "ChatRequest":
        if any(len(message.pictures()) > 1 for message in self.messages):
            raise ValueError("a message has several pictures; one at a time is looked at")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        return self

    @property
    def picture(self) -> str | None:
        """The picture that the chat is about: the last one that was shown."""
        shown = [uri for message in self.messages for uri in message.pictures()]
        return shown[-1] if shown else None


class CompletionRequest(WritingFields):
    """``POST /v1/completions``: text is continued as it stands, control tokens that are spelled in it among it."""

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int | None = Field(None, ge=0)
    echo: bool | None = Field(
        None, description="Begin the text with the prompt, and logprobs with those of the prompt."
    )
    logprobs: int | None = Field(None, ge=0, le=20)

    @property
    def prompts(self) -> "list[str | list[int]]":
        """One or more prompts, as text or as ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        ids = [token for token in self.prompt if isinstance(token, int)]
        return [ids] if ids else [prompt for prompt in self.prompt if not isinstance(prompt, int)]

    @model_validator(mode="after")
    def _check(self) -> "CompletionRequest":
        if not self.prompt:
            raise ValueError("there is no prompt")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens is 0, so there would be no text; set echo to have the prompt scored")
        if self.stream and self.echo and self.logprobs is not None:
            raise ValueError("the prompt's logprobs are not streamed; leave out echo, logprobs or stream")
        return self


class QuestionFields(Fields):
    """A question, with options or without."""

    question: Text = Field(min_length=1)
    choices: list[Text] | None = Field(None, description="At least two options; without them a text is written.")
    context: Text | None = None
    image: str | None = Field(None, description="data:image/png;base64,...; nothing is fetched.")
    max_new_tokens: int | None = Field(None, ge=1, description="Of a text; by default 64.")
    gate_scale: Gates = Field(None, description="From 0 (the base model) to 1 (the adapter, the default).")
    attention: bool | None = Field(None, description="Tell which of the adapter's prompts the answer looks at.")

    @property
    def scale(self) -> float:
        """What the gates are multiplied by."""
        return 1.0 if self.gate_scale is None else self.gate_scale


class AnswerRequest(QuestionFields):
    """A question and whom it is for."""

    model: str | None = Field(None, description="Name of an adapter, or base; by default the first adapter.")


class StreamedAnswerRequest(AnswerRequest):
    """``POST /v1/answer``, perhaps as a stream."""

    stream: bool | None = Field(None, description="Send a text in pieces as it is written; with choices it is one.")


class BatchRequest(Fields):
    """``POST /v1/answer/batch``."""

    model: str | None = Field(None, description="Name of an adapter, or base; by default the first adapter.")
    questions: list[AnswerRequest] = Field(min_length=1)


class TimingReply(BaseModel):
    """Seconds that a question waited, and that it was computed with others from then on."""

    waited: float
    computed: float


class ViewReply(BaseModel):
    """Shares of attention over a view of the picture."""

    view: str
    box: list[float] = Field(description="What the view shows: left, top, right, bottom, as shares of the picture.")
    shares: list[list[float]] = Field(description="Row by row; all views together add up to 1 at most.")


class AttentionReply(BaseModel):
    """Attention of the position that an answer is predicted from, to the prompts of L adapted layers."""

    first_layer: int = Field(description="That is adapted, counted from 0.")
    ratios: list[float] = Field(description="By layer: norm of what prompts add over that of attention to the text.")
    prompts: list[list[float]] = Field(description="By layer and prompt: softmax times size of gate, mean of heads.")
    pieces: list[list[float]] | None = Field(description="The same of a picture's pieces, where they are prompts.")
    picture: list[ViewReply] = Field(description="Over the picture, where prompts have places; else empty.")


class AnswerReply(BaseModel):
    """An answer: the likeliest option or a text."""

    model: str
    choice: str = Field(description="The chosen option, or the text that was written.")
    index: int | None = Field(description="Of the option among the choices; null without choices.")
    probabilities: list[float] = Field(description="Of the choices, in their order; empty without choices.")
    explanation: str | None = Field(None, description="Where the adapter explains before it answers.")
    timing: TimingReply
    attention: AttentionReply | None = Field(None, description="Where it was asked for.")


class BatchReply(BaseModel):
    """Answers in the order of the questions."""

    answers: list[AnswerReply]
