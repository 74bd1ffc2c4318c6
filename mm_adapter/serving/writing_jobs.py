"""Texts of several requests written together by one decoder."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from mm_adapter.inference.decoding import DecodingBatch, Row
from mm_adapter.inference.prompt_look import PromptLook
from mm_adapter.llama.model import Llama
from mm_adapter.llama.tokenizers.tokenizer import TextStream, Tokenizer
from mm_adapter.serving.jobs import Job, Piece, WriteJob, Written
from mm_adapter.serving.limits import late
from mm_adapter.serving.looking import look
from mm_adapter.serving.prefix_store import PrefixStore


class _Text:
    """A request, its row, and the text so far."""

    def __init__(self, job: WriteJob, row: Row, tokenizer: Tokenizer, looked: PromptLook | None) -> None:
        self.job, self.row, self._looked = job, row, looked
        self.stream = TextStream(tokenizer, job.stop_strings)
        self._told = 0  # scores that went out

    def advance(self) -> bool:
        """Turn new ids into text; return whether the text is at its end."""
        row, new = self.row, ""
        for token in row.written[len(self.stream.ids) :]:
            new += self.stream.push(token)
        if row.finished is not None:
            new += self.stream.finish()
        if self.stream.stopped:
            row.finished = "stop"
        scores = tuple(row.written_scores[self._told :])
        self._told += len(scores)
        if self.job.on_piece is not None and (new or scores):
            self.job.on_piece(Piece(new, scores))
        return row.finished is not None

    def result(self) -> Written:
        row = self.row
        return Written(
            self.stream.text,
            tuple(row.written),
            row.finished or "length",
            tuple(row.written_scores),
            tuple(row.prompt_scores),
            self.job.timing(),
            self._looked,
        )


class Writer:
    """Writes on the requests of all models that share one decoder.

    Every method returns what has ended: requests with their ``Written``, or the exception that they met.

    Args:
        llama: the decoder.
        store: prefixes of adapters and pictures.

    Attributes:
        active: texts that are being written.
    """

    def __init__(self, llama: Llama, store: PrefixStore) -> None:
        self.llama, self._store = llama, store
        self.active: list[_Text] = []
        self._batch = DecodingBatch(llama)

    @property
    def jobs(self) -> list[WriteJob]:
        """The requests whose texts are being written."""
        return [text.job for text in self.active]

    def join(self, jobs: Sequence[WriteJob]) -> list[tuple[Job, Any]]:
        """Read the prompts of new requests and write the first token of each."""
        if not jobs:
            return []
        try:
            texts = [self._text(job) for job in jobs]
            self._batch.join([text.row for text in texts])
        except Exception as error:
            if len(jobs) == 1:
                return [(jobs[0], error)]
            return [result for job in jobs for result in self.join([job])]
        self.active += texts
        return self._ended(texts)

    def step(self, seconds: float) -> list[tuple[Job, Any]]:
        """Write a token of every text; give up those that began to wait over ``seconds`` ago."""
        now = time.monotonic()
        results: list[tuple[Job, Any]] = []
        for text in list(self.active):
            if now - text.job.arrived > seconds:
                self._remove(text)
                results.append((text.job, late(seconds)))
            elif text.job.given_up:
                self._remove(text)
                results.append((text.job, text.result()))
        try:
            self._batch.step()
        except Exception as error:
            # Nothing tells which row it was of, and the buffers may be half written.
            results += [(text.job, error) for text in self.active]
            self.active, self._batch = [], DecodingBatch(self.llama)
            return results
        return results + self._ended(list(self.active))

    def _text(self, job: WriteJob) -> _Text:
        model = self._store.model(job.model)
        device = self.llama.device
        generator = None if job.seed is None else torch.Generator(device).manual_seed(job.seed)
        row = Row(
            job.prompt,
            frozenset(model.end_tokens),
            job.limit,
            self._store.prefixes(job),
            job.sampling,
            generator,
            job.scores,
            job.score_prompt,
        )
        looked = look(model, self._store, job, job.prompt) if job.attention else None
        return _Text(job, row, model.tokenizer, looked)

    def _ended(self, texts: Sequence[_Text]) -> list[tuple[Job, Any]]:
        ended = [text for text in texts if text.advance()]
        for text in ended:
            self._remove(text)
        return [(text.job, text.result()) for text in ended]

    def _remove(self, text: _Text) -> None:
        self.active.remove(text)
        self._batch.drop(text.row)
