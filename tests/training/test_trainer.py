"""The loop trains the adapter and nothing else, gives the same weights each time, and goes on where it stopped."""

import json
import signal

import pytest
import torch
from safetensors.torch import load_file

from mm_adapter.core.errors import Stopped, UserError
from mm_adapter.scoring.encoded_sets import HiddenStateCache
from mm_adapter.training.state import state_files
from mm_adapter.training.trainer import Trainer, trained_parameters


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.trained.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def events(trainer):
    return [json.loads(line) for line in trainer.log.path.read_text().splitlines()]


def gradients_of_step(trainer, indices):
    """Return the gradients that one step would use, before clipping."""
    found = []
    trainer.optimizer.step = lambda *_: found.extend(p.grad.clone() for p in trainer.trained.parameters())
    trainer.stepper.step(indices)
    return found


def open_gates(trainer):
    with torch.no_grad():
        trainer.trained.gates.fill_(0.3)
    return trainer


def test_loss_falls_and_only_the_adapter_changes(make_trainer):
    """Thirty epochs on twelve questions learn them; not one bit of the base model moves."""
    trainer = make_trainer(epochs=30.0, batch_size=12, eval_every=10.0, pictures=True, base_lr=8.0)
    base = {name: tensor.clone() for name, tensor in trainer.model.llama.state_dict().items()}
    before = weights(trainer)
    trainer.run()
    losses = [event["loss"] for event in events(trainer) if "loss" in event]
    assert len(losses) == 30
    assert losses[-1] < 0.7 * losses[0]
    assert same(base, dict(trainer.model.llama.state_dict()))
    after = weights(trainer)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in trainer.model.llama.parameters())
    assert trained_parameters(trainer.trained) == sum(tensor.numel() for tensor in after.values())


def test_same_seed_same_bytes(make_trainer):
    """One machine, one seed: the adapter's files agree byte for byte; another seed gives another adapter."""
    files = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        trainer = make_trainer(folder, seed=seed)
        trainer.run()
        files.append((trainer.folder / "adapter_model.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("place", ["losses", "update", "average", "evaluation", "saving"])
@pytest.mark.parametrize("decay", [0.0, 0.9])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_anywhere_then_resumed_is_the_same_run(make_trainer, monkeypatch, place, decay, number):
    """A signal in mid-step, in mid-update or in a validation with averaged weights: resumed, not one bit differs."""
    values = {"epochs": 3.0, "batch_size": 5, "ema_decay": decay, "eval_every": 1.0}
    whole = make_trainer("whole", **values)
    whole.run()
    trainer = make_trainer("cut", **values)
    calls = 0

    def signalled(function, when):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == when:
                signal.raise_signal(number)
            return function(*arguments, **options)

        return call

    if place == "losses":
        trainer.task.losses = signalled(trainer.task.losses, 4)
    elif place == "update":
        trainer.optimizer.step = signalled(trainer.optimizer.step, 5)
    elif place == "average" and trainer.average is not None:
        trainer.average.update = signalled(trainer.average.update, 3)
    elif place == "saving":
        trainer.model.save_pretrained = signalled(trainer.model.save_pretrained, 1)
    else:
        import mm_adapter.training.task as module

        monkeypatch.setattr(module, "score_questions", signalled(module.score_questions, 2))
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else Stopped):
        trainer.run()
    assert signal.getsignal(number) is before
    monkeypatch.undo()
    assert state_files(trainer.folder)
    assert (trainer.folder / "curve.png").is_file()
    resumed = make_trainer("cut", resume=True, **values)
    assert resumed.progress.step == trainer.progress.step < whole.total_steps
    resumed.run()
    agree(whole, resumed)


def agree(whole, resumed):
    """The same weights, the same files, the same events, timings apart."""
    assert same(weights(whole), weights(resumed))
    names = ("adapter_model.safetensors", "adapter_config.json")
    assert all((whole.folder / name).read_bytes() == (resumed.folder / name).read_bytes() for name in names)
    keys = ("step", "epoch", "loss", "lr", "val_accuracy", "val_loss")
    kept = [[{key: event.get(key) for key in keys} for event in events(run)] for run in (whole, resumed)]
    assert kept[0] == kept[1]
    assert whole.progress.best == tuple(resumed.progress.best)


@pytest.mark.parametrize("step", [2, 3, 4, 6])
def test_killed_between_saves_then_resumed(make_trainer, monkeypatch, step):
    """A machine that dies some steps after the last state: the steps since are taken again, to the same bits."""
    values = {"epochs": 3.0, "batch_size": 5, "save_steps": 2, "ema_decay": 0.9}
    whole = make_trainer("whole", **values)
    whole.run()
    trainer = make_trainer("cut", **values)
    monkeypatch.setattr(Trainer, "_step", _die_at(step + 1, Trainer._step))
    with pytest.raises(SystemError):
        trainer.run()
    monkeypatch.undo()
    resumed = make_trainer("cut", resume=True, **values)
    assert resumed.progress.step == max(found for found in (2, 3, 4, 6) if found <= step)
    resumed.run()
    agree(whole, resumed)


def test_damaged_last_state_falls_back_to_the_one_before(make_trainer, monkeypatch):
    """A state cut in half is named and left out; the run goes on from the last whole one, to the same bits."""
    values = {"epochs": 3.0, "batch_size": 5, "save_steps": 1}
    whole = make_trainer("whole", **values)
    whole.run()
    trainer = make_trainer("cut", **values)
    monkeypatch.setattr(Trainer, "_step", _die_at(6, Trainer._step))
    with pytest.raises(SystemError):
        trainer.run()
    monkeypatch.undo()
    last, _ = state_files(trainer.folder)
    last.write_bytes(last.read_bytes()[:1000])
    resumed = make_trainer("cut", resume=True, **values)
    assert resumed.progress.step == 4
    assert any(str(last) in note and "left out" in note for note in resumed.notes)
    resumed.run()
    agree(whole, resumed)


def _die_at(step, function):
    def call(self, indices, stop):
        if self.progress.step + 1 == step:
            raise SystemError
        return function(self, indices, stop)

    return call


def test_resume_with_other_settings_or_questions_is_refused(make_trainer, monkeypatch):
    """A resumed run with another rate, other questions or another base would be nobody's run."""
    trainer = make_trainer(epochs=2.0)
    monkeypatch.setattr(Trainer, "_step", _die_at(3, Trainer._step))
    with pytest.raises(SystemError):
        trainer.run()
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"other settings \(base_lr: 0.5, now 0.25\)"):
        make_trainer(epochs=2.0, base_lr=0.25, resume=True)
    again = make_trainer("other", epochs=2.0)
    again.folder = trainer.folder
    again.origin = {**again.origin, "questions": "others"}
    with pytest.raises(UserError, match="questions are not those it was begun with"):
        again._restore()
    again.origin = {**trainer.origin, "base": "another"}
    with pytest.raises(UserError, match=r"weights of .* are not those"):
        again._restore()


@pytest.mark.parametrize("pictures", [False, True])
def test_micro_batches_equal_one_big_batch(make_trainer, pictures):
    """Accumulation and the token budget change memory, not gradients."""
    values = {"max_grad_norm": 0.0, "pictures": pictures, "cache_states": False}
    big = gradients_of_step(open_gates(make_trainer("a", **values)), list(range(12)))
    small = gradients_of_step(open_gates(make_trainer("b", **values, token_budget=1)), list(range(12)))
    uneven = gradients_of_step(open_gates(make_trainer("c", **values, token_budget=400)), list(range(12)))
    assert float(big[0].abs().max()) > 1e-4
    for one, other, third in zip(big, small, uneven, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
        assert torch.allclose(one, third, atol=1e-5)


def test_token_budget_changes_nothing(make_trainer):
    """The same questions in each step whatever the budget: equal losses within rounding."""
    runs = []
    for folder, budget in (("a", 300), ("b", 100_000)):
        trainer = make_trainer(folder, token_budget=budget, base_lr=0.05)
        trainer.run()
        runs.append([event["loss"] for event in events(trainer) if "loss" in event])
    assert runs[0] == pytest.approx(runs[1], abs=1e-5)


def test_cached_states_equal_computed_ones(make_trainer):
    """From the second epoch on the lower layers come from memory: losses and gradients stay."""
    cached, plain = (open_gates(make_trainer(name, cache_states=name == "a", max_grad_norm=0.0)) for name in "ab")
    indices = [7, 2, 9, 0]
    first = cached.task.losses(indices, cached.cache)
    assert len(cached.cache.rows) == 4
    again, computed = (run.task.losses([0, 9], run.cache) for run in (cached, plain))
    assert torch.allclose(again, computed, atol=1e-5)
    assert torch.allclose(first[[3, 2]], computed, atol=1e-5)
    one, other = (gradients_of_step(run, indices) for run in (cached, plain))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one, other, strict=True))


def test_cache_has_a_limit_and_needs_a_lower_layer(make_trainer):
    """Beyond its memory the cache computes; where every layer is adapted there is nothing to keep."""
    trainer = make_trainer()
    small = HiddenStateCache(trainer.model, limit=1)
    batch, _, _ = trainer.task.train_set.batch([0, 1], with_tail=True)
    for _ in range(2):
        assert small.states(batch).shape[1] == len(batch.tokens)
    assert small.rows == {}
    every = make_trainer("every", layers=4)
    assert HiddenStateCache(every.model).states(batch) is None
    every.run()


@pytest.mark.parametrize(
    "values",
    [
        {"template": "QCM-A", "answer_format": "letter", "ranking": "sum", "ranking_weight": 0.0},
        {"template": "QCM-A", "explanation": "lecture-solution", "max_length": 1000},
        {"explanation": "solution", "language_weight": 0.0, "label_smoothing": 0.1, "max_length": 1000},
        {"attention": "random-init", "ema_decay": 0.5, "score_end": True},
        {"epochs": 0.5, "eval_every": 0.25, "warmup_epochs": 0.5, "max_grad_norm": 0.0, "dtype": "bfloat16"},
    ],
)
def test_every_way_of_asking_and_training_runs(make_trainer, values):
    """Letters, options shown, explanations, the ablation, part epochs, half precision: a finite loss and an adapter."""
    trainer = make_trainer(**values)
    trainer.run()
    assert all(0 < event["loss"] < 1e4 for event in events(trainer) if "loss" in event)
    tensors = load_file(trainer.folder / "adapter_model.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    assert ("gates" in tensors) == (values.get("attention") != "random-init")
    assert state_files(trainer.folder)
    trainer.finish()
    assert not state_files(trainer.folder)


def test_rate_in_the_log_is_the_schedule(make_trainer):
    """What metrics.jsonl calls the rate is what the optimiser used: warm-up, then cosine."""
    trainer = make_trainer(epochs=3.0, warmup_epochs=1.0, batch_size=6)
    trainer.run()
    rates = [event["lr"] for event in events(trainer) if "loss" in event]
    peak = 0.5 * 6 / 256
    assert rates == pytest.approx([peak * share for share in (0.5, 1.0, 1.0, 0.8535534, 0.5, 0.1464466)])


def test_best_on_validation_is_kept(make_trainer, monkeypatch):
    """The second of four evaluations is the best: its weights are in the folder, not the last ones."""
    import mm_adapter.training.task as module

    real, evaluations, seen = module.score_questions, [], []

    def scripted(model, examples, budget, ranks):
        outcome = real(model, examples, budget, ranks)
        wrong = [3, 1, 2, 2][len(evaluations)]
        evaluations.append(1)
        seen.append({name: tensor.clone() for name, tensor in model.adapter.state_dict().items()})
        answers = [encoded.question.answer for encoded in examples.questions]
        return [
            module_scored(o, answer if index >= wrong else 1 - min(answer, 1))
            for index, (o, answer) in enumerate(zip(outcome, answers, strict=True))
        ]

    from dataclasses import replace

    def module_scored(scored, choice):
        return replace(scored, choice=choice)

    monkeypatch.setattr(module, "score_questions", scripted)
    trainer = make_trainer(epochs=4.0)
    trainer.run()
    kept = load_file(trainer.folder / "adapter_model.safetensors")
    assert same(kept, seen[1])
    assert not same(kept, seen[3])
    assert [event["best"] for event in events(trainer) if "best" in event] == [True, True, False, False]


def poisoned(trainer, pids):
    """Let the losses of some questions not be finite."""
    real = trainer.task.losses

    def losses(indices, cache):
        found = real(indices, cache)
        return found * torch.tensor([float("nan") if trainer.task.pids[index] in pids else 1.0 for index in indices])

    trainer.task.losses = losses


def test_step_that_is_not_finite_is_left_out(make_trainer):
    """One poisoned question: its steps change nothing, are counted, and name it; the run goes on to its end."""
    trainer = make_trainer(batch_size=2, epochs=2.0)
    bad = trainer.task.pids[3]
    poisoned(trainer, {bad})
    trainer.run()
    found = [event["skipped"] for event in events(trainer) if "skipped" in event]
    assert found == [[bad], [bad]]
    assert trainer.progress.skipped == 2
    assert all(bool(tensor.isfinite().all()) for tensor in weights(trainer).values())


def test_half_precision_goes_on_after_a_step_that_is_left_out(make_trainer):
    """The scaler of float16 has begun with the gradients of that step; the next one finds it ready."""
    trainer = make_trainer(batch_size=2, dtype="float16")
    poisoned(trainer, {trainer.task.pids[3]})
    trainer.run()
    assert trainer.progress.skipped == 1
    assert trainer.progress.step == trainer.total_steps


def test_too_many_steps_that_are_not_finite_end_the_run(make_trainer):
    """A run that blew up stops after the limit, says where, and saves nothing broken."""
    trainer = make_trainer(batch_size=2, max_skipped_steps=2)
    with torch.no_grad():
        trainer.trained.prompts.fill_(float("nan"))
    with pytest.raises(UserError, match=r"not finite in 3 steps, the last one step 3 on .*lower base_lr"):
        trainer.run()
    assert not (trainer.folder / "adapter_model.safetensors").exists()


def test_half_precision_gradients_are_scaled(make_trainer):
    """In float16 the loss is scaled up for the way back, and the trained weights still move as in float32."""
    moved = []
    for dtype in ("float32", "float16"):
        trainer = make_trainer(dtype, dtype=dtype, batch_size=12, pictures=True, base=None)
        before = weights(trainer)
        trainer.run()
        assert trainer.stepper.scaler.is_enabled() == (dtype == "float16")
        moved.append(torch.cat([(after - before[name]).flatten() for name, after in weights(trainer).items()]))
    assert torch.nn.functional.cosine_similarity(moved[0], moved[1], dim=0) > 0.9


def test_no_adapter_no_training(make_trainer, make_config, tmp_path):
    """The loop asks for something to train."""
    trainer = make_trainer()
    trainer.model.adapter = None
    with pytest.raises(UserError, match="no adapter"):
        Trainer(trainer.model, trainer.task, make_config(), tmp_path)
