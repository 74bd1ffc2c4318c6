"""The training loop: which examples, in which order, and what is kept."""

import contextlib
import hashlib
import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mm_adapter.core.errors import Stopped, UserError
from mm_adapter.core.progress import ProgressBar, progress_bar
from mm_adapter.distributed import SINGLE_PROCESS, DistributedContext
from mm_adapter.model import MultimodalLlama
from mm_adapter.scoring.encoded_sets import HiddenStateCache
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.folder import MetricsLog
from mm_adapter.training.state import Progress, StopRequest, delete_states, load_state, save_state
from mm_adapter.training.step import ExponentialMovingAverage, Outcome, Stepper, lr_schedule, set_lr, shuffled_steps
from mm_adapter.training.task import Task, Validation


class Trainer:
    """Trains a model's adapter, or what else of it is to be trained, and keeps the weights that validate best.

    Args:
        model: with the adapter to be trained; nothing else of it is changed.
        task: what it is trained for.
        config: settings of the run.
        folder: where metrics, the best adapter and the states are written.
        resume: go on from the last whole state in ``folder``.
        quiet: show no progress bar.
        distributed: the processes that share every step; each has the same model and task, and the first one writes.

    Attributes:
        notes: what a person should know of the state that was gone on from.
    """

    def __init__(
        self,
        model: MultimodalLlama,
        task: Task,
        config: TrainingConfig,
        folder: Path,
        resume: bool = False,
        quiet: bool = False,
        distributed: DistributedContext = SINGLE_PROCESS,
    ) -> None:
        if model.trained is None:
            raise UserError("the model has no adapter to train.")
        self.model, self.trained, self.config, self.folder = model, model.trained, config, folder
        self.task, self.distributed, self.quiet = task, distributed, quiet or not distributed.is_main
        sharded = config.sharding != "none"
        # A rank that knows a state would skip layers that the others wait to gather.
        self.cache = HiddenStateCache(model) if config.cache_states and not sharded else None
        self.stepper = Stepper(self.trained, task, self.cache, config, distributed, lockstep=sharded)
        self.optimizer = self.stepper.optimizer
        self.average = ExponentialMovingAverage(self.trained, config.ema_decay) if config.ema_decay else None
        self.order = torch.Generator().manual_seed(config.seed)
        self.steps_per_epoch = math.ceil(len(task.pids) / config.batch_size)
        self.total_steps = max(1, round(config.epochs * self.steps_per_epoch))
        self.warmup_steps = round(config.warmup_epochs * self.steps_per_epoch)
        self.eval_every_steps = config.steps_between_validations(self.steps_per_epoch)
        self.progress = Progress(0, self.order.get_state())
        self.notes: list[str] = []
        # What a run must find unchanged to go on: the base's weights and the examples, by their ids and lengths.
        pids = "\n".join((*task.pids, *task.val_pids, *map(str, task.lengths)))
        self.origin = {"base": model.base_fingerprint, "questions": hashlib.sha256(pids.encode()).hexdigest()}
        if resume:
            self._restore()
        self.log = MetricsLog(folder if distributed.is_main else None, self.progress.step, self.progress.evaluated)
        if config.log_to != "none" and distributed.is_main:
            from mm_adapter.training.trackers import Trackers  # few runs are told to other programs

            self.log.followers = [Trackers(config, folder, self.trained, self.optimizer, self.progress.step)]
        self._resumed_seconds = self.progress.seconds
        self._start = self._saved = time.perf_counter()

    def run(self) -> None:
        """Train to the end.

        On Ctrl-C or SIGTERM, end after the step under way, keep the state, and raise ``KeyboardInterrupt`` or
        ``Stopped``.

        Raises:
            UserError: too many steps in which loss or gradient were not finite, or something cannot be written.
        """
        self.trained.train()
        bar = progress_bar(self.total_steps, "training", "step", self.quiet, self.progress.step)
        try:
            with StopRequest() as stop, bar:
                with self._interruptible(stop):
                    self._restore_cache()
                self._evaluate_if_due(bar, stop)
                while self.progress.step < self.total_steps:
                    self._epoch(bar, stop)
        except BaseException:
            with contextlib.suppress(UserError):  # what ended the run is to be told, not that it cannot be drawn
                self.log.end()
            raise
        self.log.end()

    def finish(self) -> None:
        """Delete the states of a run that has come to its end."""
        if self.distributed.is_main:
            delete_states(self.folder)

    def _epoch(self, bar: ProgressBar, stop: StopRequest) -> None:
        done = self.progress.step % self.steps_per_epoch
        self.order.set_state(self.progress.epoch_start)
        steps = list(shuffled_steps(len(self.task.pids), self.config.batch_size, self.order, self.task.weights))
        for indices in steps[done:]:
            if self.progress.step >= self.total_steps:
                return
            event = self._step(indices, stop)
            bar.update()
            bar.set_postfix_str(
                f"loss {event['loss']:.3f}, lr {event['lr']:.1e}, {event['questions_per_second']:.1f} questions/s"
            )
            self._evaluate_if_due(bar, stop)

    def _step(self, indices: list[int], stop: StopRequest) -> dict[str, Any]:
        start = time.perf_counter()
        share = lr_schedule(self.progress.step, self.total_steps, self.warmup_steps)
        set_lr(self.optimizer, share)
        outcome = self.stepper.step(indices, (*stop.told(), self.distributed.is_main and self._save_is_due()))
        if outcome.learned and self.average is not None:
            self.average.update(self.trained)
        self.progress.step += 1
        self.progress.skipped += not outcome.learned
        if self.progress.step % self.steps_per_epoch == 0:
            self.progress.epoch_start = self.order.get_state()
        self.progress.seconds = self._resumed_seconds + time.perf_counter() - self._start
        event = {
            "step": self.progress.step,
            "epoch": round(self.progress.step / self.steps_per_epoch, 4),
            "loss": outcome.loss,
            "lr": self.config.lr * share,
            "questions_per_second": len(indices) / (time.perf_counter() - start),
            **({"idle": round(outcome.idle, 4)} if self.distributed.world_size > 1 else {}),
            **({} if outcome.learned else {"skipped": list(outcome.nonfinite)}),
        }
        self.log.add(**event)
        self._after(outcome, stop)
        return event

    def _after(self, outcome: Outcome, stop: StopRequest) -> None:
        if self.progress.skipped > self.config.max_skipped_steps:
            named = ", ".join(outcome.nonfinite[:10])
            raise UserError(
                f"the loss or its gradient was not finite in {self.progress.skipped} steps, the last one step "
                f"{self.progress.step} on {named}; lower base_lr, or check these examples."
            )
        *signals, due = outcome.summed
        stop.agree(signals)
        if stop.agreed is not None or due:
            self._save()
        if stop.agreed is not None:
            stop.act()

    def _interruptible(self, stop: StopRequest) -> contextlib.AbstractContextManager[None]:
        """Where a signal may act at once: alone. Of several ranks none may leave the others waiting for it."""
        return stop.at_once() if self.distributed.world_size == 1 else contextlib.nullcontext()

    def _evaluate_if_due(self, bar: ProgressBar, stop: StopRequest) -> None:
        step = self.progress.step
        if step > self.progress.evaluated and (step % self.eval_every_steps == 0 or step == self.total_steps):
            self._evaluate(bar, stop)

    def _evaluate(self, bar: ProgressBar, stop: StopRequest) -> None:
        """Score the validation questions, keep the weights if they are the best so far, and save the state."""
        if self.distributed.world_size > 1:
            self._save()  # an evaluation may take longer than a machine that is taken away waits
        found = self._validate(stop)
        self.progress.evaluated = self.progress.step
        best = self.progress.best is None or found.rank > tuple(self.progress.best)
        if best:
            self.progress.best = found.rank
        accuracy = {} if found.accuracy is None else {"val_accuracy": found.accuracy}
        self.log.add(step=self.progress.step, **accuracy, val_loss=found.loss, best=best)
        self._save()
        if not self.quiet:
            epoch = self.progress.step / self.steps_per_epoch
            bar.write(f"epoch {epoch:.2f}: validation {found}{' (best)' if best else ''}")

    def _validate(self, stop: StopRequest) -> Validation:
        """Return how good the weights are, and write them if they are the best; an end in between keeps the state."""
        own = None
        if self.average is not None:
            own = {name: tensor.clone() for name, tensor in self.trained.state_dict().items()}
            self.trained.load_state_dict(self.average.weights)
        self.trained.eval()
        try:
            with self._interruptible(stop):
                found = self.task.validate(self.distributed)
            if self.distributed.is_main and (self.progress.best is None or found.rank > tuple(self.progress.best)):
                self.model.save_pretrained(self.folder)
        except (KeyboardInterrupt, Stopped):
            self._put_back(own)
            self._save()
            raise
        self._put_back(own)
        return found

    def _put_back(self, own: dict[str, torch.Tensor] | None) -> None:
        if own is not None:
            self.trained.load_state_dict(own)
        self.trained.train()

    def _save_is_due(self) -> bool:
        config = self.config
        by_step = config.save_steps and (self.progress.step + 1) % config.save_steps == 0
        by_time = config.save_minutes and time.perf_counter() - self._saved > 60 * config.save_minutes
        return bool(by_step or by_time)

    def _save(self) -> None:
        """Write all that a later run needs to go on from here.

        What is drawn at random in training is the order alone, and its generator's state is the same on all ranks.
        """
        self._saved = time.perf_counter()
        if not self.distributed.is_main:
            return
        parts: dict[str, Any] = {
            "trained": self.trained.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.stepper.scaler.state_dict(),
            "origin": self.origin,
            "torch": str(torch.__version__),
            "ranks": self.distributed.world_size,
        }
        if self.average is not None:
            parts["average"] = {"steps": self.average.steps, "weights": self.average.weights}
        save_state(self.folder, self.progress, parts, self.config.to_json(), self.config.max_states)

    def _restore_cache(self) -> None:
        """Keep the same states as the run that is gone on with: what else was in a batch decides how they are rounded.

        They were computed when this rank first met them, so the steps up to now are gone through again, without the
        adapter.
        """
        if self.cache is None or not self.progress.step:
            return
        missing = set(self.task.pids)
        steps = islice(self._steps_from_the_start(), self.progress.step)
        with progress_bar(self.progress.step, "lower layers", "step", self.quiet) as bar:
            for indices in steps:
                for batch in self.stepper.passes(indices)[0]:
                    if not missing.isdisjoint(pids := [self.task.pids[index] for index in batch]):
                        self.task.keep_states(batch, self.cache)
                        missing.difference_update(pids)
                if not missing:
                    break
                bar.update()

    def _steps_from_the_start(self) -> Iterator[list[int]]:
        order = torch.Generator().manual_seed(self.config.seed)
        while True:
            yield from shuffled_steps(len(self.task.pids), self.config.batch_size, order, self.task.weights)

    def _restore(self) -> None:
        saved = load_state(self.folder, self.config.to_json()) if self.distributed.is_main else None
        saved = self.distributed.broadcast(saved)
        assert saved is not None
        self.progress, parts = saved.progress, saved.parts
        # Older states note the fingerprint of the weights alone.
        known = {*self.origin.values(), self.model.base_description.get("weights")}
        changed = [name for name, value in parts["origin"].items() if value not in known]
        if changed:
            what = {
                "base": f"weights of {self.model.base_name}, or what it computes with them,",
                "questions": "questions",
            }[changed[0]]
            raise UserError(f"{self.folder}: cannot go on, the {what} are not those it was begun with; use the same.")
        self.notes += [f"{path}: {reason}; left out" for path, reason in saved.damaged.items()]
        self.notes.append(f"going on after step {self.progress.step}")
        for name, now in (("torch", str(torch.__version__)), ("ranks", self.distributed.world_size)):
            if parts[name] != now:
                self.notes.append(f"begun with {name} {parts[name]}, now {now}: the last digits will differ")
        self.trained.load_state_dict(parts["trained"])
        self.optimizer.load_state_dict(parts["optimizer"])
        self.stepper.scaler.load_state_dict(parts["scaler"])
        if self.average is not None:
            self.average.steps = parts["average"]["steps"]
            for name, tensor in parts["average"]["weights"].items():
                self.average.weights[name].copy_(tensor)


def trained_parameters(trained: nn.Module) -> int:
    """Return how many numbers are trained."""
    return sum(parameter.numel() for parameter in trained.parameters())
