"""The loop trains the adapter and nothing else, gives the same weights each time, and goes on where it stopped."""

import json

import pytest
import torch
from safetensors.torch import load_file

from mm_adapter.errors import UserError
from mm_adapter.examples import StateCache
from mm_adapter.training.state import STATE_FILE
from mm_adapter.training.trainer import Trainer, trained_parameters


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.trained.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def events(trainer):
    return [json.loads(line) for line in trainer.log.path.read_text().splitlines()]


def gradients_of_step(trainer, micro_batches):
    """Return the gradients that one step would use, before clipping."""
    found = []
    trainer.optimizer.step = lambda: found.extend(p.grad.clone() for p in trainer.trained.parameters())
    trainer._step(micro_batches)
    return found


def open_gates(trainer):
    with torch.no_grad():
        trainer.trained.gates.fill_(0.3)
    return trainer


def test_loss_falls_and_only_the_adapter_changes(make_trainer):
    """Thirty epochs on twelve questions learn them; not one bit of the base model moves."""
    trainer = make_trainer(epochs=30.0, batch_size=12, evaluations=0.1, pictures=True, base_rate=8.0)
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


@pytest.mark.parametrize("place", ["before", "update", "average", "look", "saving"])
@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_interrupted_anywhere_then_resumed_is_the_same_run(make_trainer, monkeypatch, place, decay):
    """Ctrl-C in mid-step, in mid-update or in a validation with averaged weights: resumed, not one bit differs."""
    values = {"epochs": 3.0, "batch_size": 5, "average_decay": decay, "evaluations": 1.0}
    whole = make_trainer("whole", **values)
    whole.run()
    trainer = make_trainer("cut", **values)
    calls = 0

    def interrupting(function, when, after):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls < when:
                return function(*arguments, **options)
            if after:
                function(*arguments, **options)
            raise KeyboardInterrupt

        return call

    if place == "before":
        trainer.task.losses = interrupting(trainer.task.losses, 4, after=False)
    elif place == "update":
        trainer.optimizer.step = interrupting(trainer.optimizer.step, 5, after=True)
    elif place == "average" and trainer.average is not None:
        trainer.average.update = interrupting(trainer.average.update, 3, after=True)
    elif place == "saving":
        trainer.model.save_pretrained = interrupting(trainer.model.save_pretrained, 1, after=True)
    else:
        import mm_adapter.training.task as module

        monkeypatch.setattr(module, "score_examples", interrupting(module.score_examples, 2, after=False))
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    monkeypatch.undo()
    assert (trainer.folder / STATE_FILE).is_file()
    assert (trainer.folder / "curve.png").is_file()
    resumed = make_trainer("cut", resume=True, **values)
    assert 0 < resumed.progress.step < whole.total_steps
    resumed.run()
    assert same(weights(whole), weights(resumed))
    names = ("adapter_model.safetensors", "adapter_config.json")
    assert all((whole.folder / name).read_bytes() == (resumed.folder / name).read_bytes() for name in names)
    keys = ("step", "epoch", "loss", "rate", "val_accuracy", "val_loss")
    kept = [[{key: event.get(key) for key in keys} for event in events(run)] for run in (whole, resumed)]
    assert kept[0] == kept[1]
    assert whole.progress.best == tuple(resumed.progress.best)


def test_killed_at_the_end_of_an_epoch_then_resumed(make_trainer, tmp_path, monkeypatch):
    """A machine that dies right after the state was saved: the next epoch still has its own order."""
    values = {"epochs": 3.0, "batch_size": 6}
    whole = make_trainer("whole", **values)
    whole.run()
    trainer = make_trainer("cut", **values)
    monkeypatch.setattr(Trainer, "_step", _die_at(3, Trainer._step))
    with pytest.raises(SystemError):
        trainer.run()
    monkeypatch.undo()
    resumed = make_trainer("cut", resume=True, **values)
    assert resumed.progress.step == 2 == resumed.steps_per_epoch
    resumed.run()
    assert same(weights(whole), weights(resumed))


def _die_at(step, function):
    def call(self, micro_batches):
        if self.progress.step + 1 == step:
            raise SystemError
        return function(self, micro_batches)

    return call


def test_resume_with_other_settings_or_questions_is_refused(make_trainer, monkeypatch):
    """A resumed run with another rate, other questions or another base would be nobody's run."""
    trainer = make_trainer(epochs=2.0)
    monkeypatch.setattr(Trainer, "_step", _die_at(3, Trainer._step))
    with pytest.raises(SystemError):
        trainer.run()
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"other settings \(base_rate: 0.5, now 0.25\)"):
        make_trainer(epochs=2.0, base_rate=0.25, resume=True)
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
    values = {"clip": 0.0, "pictures": pictures, "cache_states": False}
    big = gradients_of_step(open_gates(make_trainer("a", **values)), [list(range(12))])
    small = gradients_of_step(open_gates(make_trainer("b", **values)), [[index] for index in range(12)])
    uneven = gradients_of_step(open_gates(make_trainer("c", **values)), [[3, 1, 5, 4, 0], [2], [11, 6, 7, 8, 10, 9]])
    assert float(big[0].abs().max()) > 1e-4
    for one, other, third in zip(big, small, uneven, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
        assert torch.allclose(one, third, atol=1e-5)


def test_token_budget_changes_nothing(make_trainer):
    """The same questions in each step whatever the budget: equal losses within rounding."""
    runs = []
    for folder, budget in (("a", 300), ("b", 100_000)):
        trainer = make_trainer(folder, token_budget=budget, base_rate=0.05)
        trainer.run()
        runs.append([event["loss"] for event in events(trainer) if "loss" in event])
    assert runs[0] == pytest.approx(runs[1], abs=1e-5)


def test_cached_states_equal_computed_ones(make_trainer):
    """From the second epoch on the lower layers come from memory: losses and gradients stay."""
    cached, plain = (open_gates(make_trainer(name, cache_states=name == "a", clip=0.0)) for name in "ab")
    indices = [7, 2, 9, 0]
    first = cached.task.losses(indices, cached.cache)
    assert len(cached.cache.rows) == 4
    again, computed = (run.task.losses([0, 9], run.cache) for run in (cached, plain))
    assert torch.allclose(again, computed, atol=1e-5)
    assert torch.allclose(first[[3, 2]], computed, atol=1e-5)
    one, other = (gradients_of_step(run, [indices]) for run in (cached, plain))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one, other, strict=True))


def test_cache_has_a_limit_and_needs_a_lower_layer(make_trainer):
    """Beyond its memory the cache computes; where every layer is adapted there is nothing to keep."""
    trainer = make_trainer()
    small = StateCache(trainer.model, limit=1)
    batch, _, _ = trainer.task.train_set.batch([0, 1], with_tail=True)
    for _ in range(2):
        assert small.states(batch).shape[1] == len(batch.tokens)
    assert small.rows == {}
    every = make_trainer("every", layers=4)
    assert StateCache(every.model).states(batch) is None
    every.run()


@pytest.mark.parametrize(
    "values",
    [
        {"template": "QCM-A", "answer_format": "letter", "ranking": "sum", "ranking_weight": 0.0},
        {"template": "QCM-A", "explanation": "lecture-solution", "max_length": 1000},
        {"explanation": "solution", "language_weight": 0.0, "smoothing": 0.1, "max_length": 1000},
        {"attention": "random-init", "average_decay": 0.5, "score_end": True},
        {"epochs": 0.5, "evaluations": 4.0, "warmup_epochs": 0.5, "clip": 0.0, "dtype": "bfloat16"},
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
    assert not (trainer.folder / STATE_FILE).exists()


def test_rate_in_the_log_is_the_schedule(make_trainer):
    """What metrics.jsonl calls the rate is what the optimiser used: warm-up, then cosine."""
    trainer = make_trainer(epochs=3.0, warmup_epochs=1.0, batch_size=6)
    trainer.run()
    rates = [event["rate"] for event in events(trainer) if "loss" in event]
    peak = 0.5 * 6 / 256
    assert rates == pytest.approx([peak * share for share in (0.5, 1.0, 1.0, 0.8535534, 0.5, 0.1464466)])


def test_best_on_validation_is_kept(make_trainer, monkeypatch):
    """The second of four looks is the best: its weights are in the folder, not the last ones."""
    import mm_adapter.training.task as module

    real, looks, seen = module.score_examples, [], []

    def scripted(model, examples, budget):
        outcome = real(model, examples, budget)
        wrong = [3, 1, 2, 2][len(looks)]
        looks.append(1)
        seen.append({name: tensor.clone() for name, tensor in model.adapter.state_dict().items()})
        answers = [encoded.question.answer for encoded in examples.questions]
        return [
            module_scored(o, answer if index >= wrong else 1 - min(answer, 1))
            for index, (o, answer) in enumerate(zip(outcome, answers, strict=True))
        ]

    from dataclasses import replace

    def module_scored(scored, choice):
        return replace(scored, choice=choice)

    monkeypatch.setattr(module, "score_examples", scripted)
    trainer = make_trainer(epochs=4.0)
    trainer.run()
    kept = load_file(trainer.folder / "adapter_model.safetensors")
    assert same(kept, seen[1])
    assert not same(kept, seen[3])
    assert [event["best"] for event in events(trainer) if "best" in event] == [True, True, False, False]


def test_loss_that_is_not_finite_names_the_questions(make_trainer):
    """A run that blew up stops at once, says where, and saves nothing broken."""
    trainer = make_trainer(batch_size=2)
    with torch.no_grad():
        trainer.trained.prompts.fill_(float("nan"))
    with pytest.raises(UserError, match=r"not finite at step 1 on .*lower base_rate"):
        trainer.run()
    assert not (trainer.folder / "adapter_model.safetensors").exists()


def test_no_adapter_no_training(make_trainer, make_config, tmp_path):
    """The loop asks for something to train."""
    trainer = make_trainer()
    trainer.model.adapter = None
    with pytest.raises(UserError, match="no adapter"):
        Trainer(trainer.model, trainer.task, make_config(), tmp_path)
