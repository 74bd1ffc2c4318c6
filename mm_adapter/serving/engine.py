"""One base, any number of adapters, and a thread that computes together what was asked at about the same time.

Questions with options are packed into one pass as in evaluation, texts are written by rows that join and leave between
two tokens; requests of different adapters share both. Adapters that change weights of the base compute by themselves.
"""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from mm_adapter.core.errors import suggestion
from mm_adapter.model import MultimodalLlama
from mm_adapter.serving.jobs import ChooseJob, Job, WriteJob
from mm_adapter.serving.limits import Limits, Overloaded, UnknownModel, late
from mm_adapter.serving.prefix_store import PrefixStore
from mm_adapter.serving.scoring_jobs import choose_together, next_questions
from mm_adapter.serving.writing_jobs import Writer

BASE = "base"
"""The name of the model without an adapter."""
_ALONE, _BESIDE = 4096, 1024  # tokens of a pass: as in evaluation, and while texts wait for their next token


class Engine:
    """Computes requests of several threads in one of its own, in the order in which they came.

    Use it as a context manager, or call ``start`` and ``close``.

    Args:
        models: by name; see ``mm_adapter.serving.loading.load_models``.
        limits: how much may wait and how long.

    Attributes:
        finished: requests that were answered; failed: that ended by an error.
        scored, written: questions that were scored and tokens that were written.
        passes: of scoring, so that ``scored / passes`` questions went through the model together.
        steps: of writing; each wrote a token of every row.
    """

    def __init__(self, models: Mapping[str, MultimodalLlama], limits: Limits | None = None) -> None:
        self.models, self.limits = dict(models), limits or Limits()
        self.finished = self.failed = self.scored = self.written = self.passes = self.steps = 0
        self._questions: deque[ChooseJob] = deque()
        self._texts: deque[WriteJob] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._store = PrefixStore(self.models)
        # One for each decoder: the frozen one, and one of every adapter that changes its weights.
        self._writers = {id(model.llama): Writer(model.llama, self._store) for model in self.models.values()}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def __enter__(self) -> "Engine":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to compute."""
        self._thread.start()

    def close(self) -> None:
        """Take no further request; return when all that were accepted are done."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._questions) + len(self._texts)

    @property
    def rows(self) -> int:
        """Texts that are being written."""
        return sum(len(writer.active) for writer in self._writers.values())

    @property
    def alive(self) -> bool:
        """Whether requests are computed."""
        return self._thread.is_alive() and not self._closing

    def model(self, name: str) -> MultimodalLlama:
        """Return a model by its name.

        Raises:
            UnknownModel: there is none of that name.
        """
        if name not in self.models:
            known = ", ".join(self.models)
            nearest = suggestion(name[:80], list(self.models))
            raise UnknownModel(f"there is no model {name[:80]!r}{nearest}; there are: {known}.")
        return self.models[name]

    def submit(self, jobs: Sequence[Job]) -> "list[Future[Any]]":
        """Put requests into the queue, all or none; return the future of each one's result.

        A request whose future is cancelled is not computed; one that has ``given_up`` set is not computed to its end.

        Raises:
            UnknownModel: there is no model of a name.
            Overloaded: they would be more than may wait, or the engine is being closed.
        """
        for job in jobs:
            self.model(job.model)
        with self._wake:
            if self._closing or not self._thread.is_alive():
                raise Overloaded("the server is ending and takes no further request; ask again soon.", 5)
            if self.waiting + len(jobs) > self.limits.queue:
                raise Overloaded(
                    f"{self.waiting} requests wait, and at most {self.limits.queue} may; ask again soon.",
                    self._retry_after(),
                )
            for job in jobs:
                (self._texts if isinstance(job, WriteJob) else self._questions).append(job)  # type: ignore[arg-type]
            self._wake.notify_all()
        return [job.future for job in jobs]

    def _retry_after(self) -> int:
        """Return in how many seconds there should be room: when half of those that wait now are in time."""
        oldest = min((queue[0].arrived for queue in (self._questions, self._texts) if queue), default=time.monotonic())
        return max(1, min(30, round((time.monotonic() - oldest) / 2)))

    def _run(self) -> None:
        try:
            self._compute()
        finally:
            # Only after an error of the program itself is anything left: nobody is to wait for it for ever.
            written = [job for writer in self._writers.values() for job in writer.jobs]
            for job in (*self._questions, *self._texts, *written):
                if not job.future.done():
                    job.future.set_exception(Overloaded("the server has ended by an error; see its log.", 5))

    def _compute(self) -> None:
        while True:
            with self._wake:
                while not (self.waiting or self.rows or self._closing):
                    self._wake.wait()
                if self._closing and not self.waiting and not self.rows:
                    return
                self._drop_late()
                questions = next_questions(self._questions, _BESIDE if self.rows or self._texts else _ALONE)
                texts = self._next_texts()
            self._choose(questions)
            for writer in self._writers.values():
                own = [job for job in texts if id(self.models[job.model].llama) == id(writer.llama)]
                self.written += len(own)
                self._settle(writer.join(own))
                if writer.active:
                    self.steps += 1
                    self.written += len(writer.active)
                    self._settle(writer.step(self.limits.seconds))

    def _drop_late(self) -> None:
        """Take out of the queue what was given up, or has waited for as long as a request may take."""
        now = time.monotonic()
        for queue in (self._questions, self._texts):
            waiting: list[Any] = list(queue)
            queue.clear()
            for job in waiting:
                if now - job.arrived <= self.limits.seconds and not job.future.cancelled():
                    queue.append(job)
                elif _begin(job):
                    self.failed += 1
                    job.future.set_exception(late(self.limits.seconds))

    def _next_texts(self) -> list[WriteJob]:
        """Take from the queue what may join: the first at least, as far as there are rows."""
        texts: list[WriteJob] = []
        room, rows = _BESIDE, self.rows
        longest = max((job.positions for writer in self._writers.values() for job in writer.jobs), default=0)
        while self._texts and rows + len(texts) < self.limits.rows:
            job = self._texts[0]
            room, longest = room - len(job.prompt), max(longest, job.positions)
            too_much = (rows + len(texts) + 1) * longest > self.limits.positions
            if (room < 0 and texts) or (too_much and (rows or texts)):
                break
            if _begin(self._texts.popleft()):
                texts.append(job)
        return texts

    def _choose(self, jobs: Sequence[ChooseJob]) -> None:
        jobs = [job for job in jobs if _begin(job)]
        if not jobs:
            return
        self.passes += 1
        self.scored += len(jobs)
        self._settle(choose_together(self.models, self._store, jobs))

    def _settle(self, results: Sequence[tuple[Job, Any]]) -> None:
        for job, result in results:
            if isinstance(result, Exception):
                self.failed += 1
                job.future.set_exception(result)
            else:
                self.finished += 1
                job.future.set_result(result)


def _begin(job: Job) -> bool:
    """Mark a request as begun; False where it was given up."""
    job.started = time.monotonic()
    return job.future.set_running_or_notify_cancel()
