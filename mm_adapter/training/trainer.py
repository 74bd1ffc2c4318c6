"""The training loop: which examples, in which order, and what is kept."""

import copy
import hashlib
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from data.batching import shuffled_steps
from mm_adapter.errors import UserError
from mm_adapter.examples import StateCache
from mm_adapter.model import MultimodalLlama
from mm_adapter.training.config import TrainingConfig
from mm_adapter.training.log import MetricsLog
from mm_adapter.training.optimization import AverageWeights, make_optimizer, schedule, set_rate
from mm_adapter.training.state import STATE_FILE, Progress, load_state, save_state
from mm_adapter.training.task import Task


class Trainer:
    """Trains a model's adapter, or what else of it is to be trained, and keeps the weights that validate best.

    Args:
        model: with the adapter to be trained; nothing else of it is changed.
        task: what it is trained for.
        config: settings of the run.
        folder: where metrics, the best adapter and the last state are written.
        resume: go on from the last state in ``folder``.
        quiet: show no progress bar.
    """

    def __init__(
        self,
        model: MultimodalLlama,
        task: Task,
        config: TrainingConfig,
        folder: Path,
        resume: bool = False,
        quiet: bool = False,
    ) -> None:
        if model.trained is None:
            raise UserError("the model has no adapter to train.")
        self.model, self.trained, self.config, self.folder = model, model.trained, config, folder
        self.task, self.quiet = task, quiet
        self.optimizer = make_optimizer(self.trained, config)
        self.average = AverageWeights(self.trained, config.average_decay) if config.average_decay else None
        self.cache = StateCache(model) if config.cache_states else None
        self.order = torch.Generator().manual_seed(config.seed)
        self.steps_per_epoch = math.ceil(len(task.pids) / config.batch_size)
        self.total_steps = max(1, round(config.epochs * self.steps_per_epoch))
        self.warmup_steps = round(config.warmup_epochs * self.steps_per_epoch)
        self.look_every = max(1, round(self.steps_per_epoch / config.evaluations))
        self.progress = Progress(0, self.order.get_state())
        # What a run must find unchanged to go on: the base's weights and the examples, by their ids and lengths.
        pids = "\n".join((*task.pids, *task.val_pids, *map(str, task.lengths)))
        self.origin = {"base": model.base_fingerprint, "questions": hashlib.sha256(pids.encode()).hexdigest()}
        if resume:
            self._restore()
        self.log = MetricsLog(folder, self.progress.step)
        self._resumed_seconds = self.progress.seconds
        self._start = time.perf_counter()

    def run(self) -> None:
        """Train to the end; on Ctrl-C, keep the state of the last whole step and raise ``KeyboardInterrupt``."""
        self.trained.train()
        self._keep()
        self._restore_cache()
        bar = tqdm(total=self.total_steps, initial=self.progress.step, desc="training", unit="step", disable=self.quiet)
        try:
            with bar:
                self._look_if_due(bar)
                while self.progress.step < self.total_steps:
                    self._epoch(bar)
        except KeyboardInterrupt:
            # It may have come in the middle of an update, or while averaged weights stood in for those in training.
            self.progress, parts = self._kept
            save_state(self.folder, self.progress, parts, self.config.to_json())
            raise
        finally:
            self.log.draw()
        (self.folder / STATE_FILE).unlink(missing_ok=True)

    def _epoch(self, bar: "tqdm[Any]") -> None:
        config = self.config
        done = self.progress.step % self.steps_per_epoch
        self.order.set_state(self.progress.epoch_start)
        lengths = self.task.lengths
        steps = list(shuffled_steps(lengths, config.batch_size, config.token_budget, self.order))
        for micro_batches in steps[done:]:
            if self.progress.step >= self.total_steps:
                return
            event = self._step(micro_batches)
            if self.progress.step % self.steps_per_epoch == 0:
                self.progress.epoch_start = self.order.get_state()
            self._keep()
            bar.update()
            bar.set_postfix_str(
                f"loss {event['loss']:.3f}, rate {event['rate']:.1e}, {event['questions_per_second']:.1f} questions/s"
            )
            self._look_if_due(bar)

    def _step(self, micro_batches: list[list[int]]) -> dict[str, Any]:
        start = time.perf_counter()
        share = schedule(self.progress.step, self.total_steps, self.warmup_steps)
        set_rate(self.optimizer, share)
        count = sum(map(len, micro_batches))
        losses = []
        for indices in micro_batches:
            loss = self.task.losses(indices, self.cache).sum() / count
            if not bool(loss.isfinite()):
                pids = ", ".join(self.task.pids[index] for index in indices)
                raise UserError(f"the loss is not finite at step {self.progress.step + 1} on {pids}; lower base_rate.")
            loss.backward()
            losses.append(float(loss.detach()))
        if self.config.clip:
            torch.nn.utils.clip_grad_norm_(self.trained.parameters(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.trained)
        self.progress.step += 1
        self.progress.seconds = self._resumed_seconds + time.perf_counter() - self._start
        event = {
            "step": self.progress.step,
            "epoch": round(self.progress.step / self.steps_per_epoch, 4),
            "loss": sum(losses),
            "rate": self.config.rate * share,
            "questions_per_second": count / (time.perf_counter() - start),
        }
        self.log.add(**event)
        return event

    def _look_if_due(self, bar: "tqdm[Any]") -> None:
        step = self.progress.step
        if step > self.progress.looked and (step % self.look_every == 0 or step == self.total_steps):
            self._look(bar)

    def _look(self, bar: "tqdm[Any]") -> None:
        """Score the validation questions, keep the weights if they are the best so far, and save the state."""
        own = {name: tensor.clone() for name, tensor in self.trained.state_dict().items()}
        if self.average is not None:
            self.trained.load_state_dict(self.average.weights)
        self.trained.eval()
        found = self.task.validate()
        best = self.progress.best is None or found.rank > tuple(self.progress.best)
        if best:
            self.progress.best = found.rank
            self.model.save_pretrained(self.folder)
        self.trained.load_state_dict(own)
        self.trained.train()
        accuracy = {} if found.accuracy is None else {"val_accuracy": found.accuracy}
        self.log.add(step=self.progress.step, **accuracy, val_loss=found.loss, best=best)
        self.progress.looked = self.progress.step
        self._keep()
        save_state(self.folder, *self._kept, self.config.to_json())
        if not self.quiet:
            epoch = self.progress.step / self.steps_per_epoch
            bar.write(f"epoch {epoch:.2f}: validation {found}{' (best)' if best else ''}")

    def _keep(self) -> None:
        """Copy all that a later run needs to go on from here."""
        parts: dict[str, Any] = {
            "trained": self.trained.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "origin": self.origin,
        }
        if self.average is not None:
            parts["average"] = {"steps": self.average.steps, "weights": self.average.weights}
        self._kept = replace(self.progress), copy.deepcopy(parts)

    def _restore_cache(self) -> None:
        """Keep the same states as the run that is gone on with: what else was in a batch decides how they are rounded.

        They were computed in the first epoch, so its steps up to now are gone through again, without the adapter.
        """
        if self.cache is None or not self.progress.step:
            return
        order = torch.Generator().manual_seed(self.config.seed)
        config, lengths = self.config, self.task.lengths
        first_epoch = list(shuffled_steps(lengths, config.batch_size, config.token_budget, order))
        for step in tqdm(first_epoch[: self.progress.step], desc="lower layers", unit="step", disable=self.quiet):
            for indices in step:
                self.task.keep_states(indices, self.cache)

    def _restore(self) -> None:
        self.progress, parts = load_state(self.folder, self.config.to_json())
        changed = [name for name, value in parts.get("origin", self.origin).items() if self.origin.get(name) != value]
        if changed:
            what = {"base": f"weights of {self.model.base_name}", "questions": "questions"}[changed[0]]
            raise UserError(f"{self.folder}: cannot go on, the {what} are not those it was begun with; use the same.")
        self.trained.load_state_dict(parts["trained"])
        self.optimizer.load_state_dict(parts["optimizer"])
        if self.average is not None:
            self.average.steps = parts["average"]["steps"]
            for name, tensor in parts["average"]["weights"].items():
                self.average.weights[name].copy_(tensor)


def trained_parameters(trained: nn.Module) -> int:
    """Return how many numbers are trained."""
    return sum(parameter.numel() for parameter in trained.parameters())
