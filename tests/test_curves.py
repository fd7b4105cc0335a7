"""Curves for TensorBoard hold what the history holds, go on where a training goes on, and determine nothing."""

import sys
import warnings
from dataclasses import replace

import pytest
from tinyland import tiny_network, tinyland

import archs
from bench.errors import BenchError
from bench.study import Setting, Variant, VariantStudy, plan_study, run_study
from bench.study.run import log_recorded
from bench.training.cells import train_cell
from bench.training.curves import require_tracker
from bench.training.recipe import Recipe, recipe_named
from bench.training.tiles import seed_everything
from bench.training.trainer import train

pytest.importorskip("tensorboard")
RECIPE = Recipe(steps=13, eval_every=4, checkpoint_every=3, batch=4, crop=12, lr=0.02, early_stop=None)
DATA = tinyland()


class PulledPlug(Exception):
    """What stops a run in the middle."""


def read(folder):
    """By tag, the (step, value) that TensorBoard shows: a resumed run's writer withdraws what came after its step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def sitting(folder, curves, stop=None):
    def on_step(done, total, loss):
        if done == stop:
            raise PulledPlug

    seed_everything(0)
    return train(tiny_network(), DATA, RECIPE, seed=0, folder=folder, on_step=on_step, curves=curves)


@pytest.mark.parametrize("stops", [[], [7], [8], [2, 11]])
def test_a_resumed_training_continues_its_curves(tmp_path, stops):
    for step in stops:
        with pytest.raises(PulledPlug):
            sitting(tmp_path / "checkpoints", tmp_path / "curves", step)
    result = sitting(tmp_path / "checkpoints", tmp_path / "curves")
    found = read(tmp_path / "curves")
    for tag, key in {"val/macro_f1": "macro_f1", "train/mean_loss": "loss", "train/lr": "lr"}.items():
        assert found[tag] == [(e["step"], pytest.approx(e[key])) for e in result.history], tag
    assert [step for step, _ in found["train/loss"]] == list(range(1, RECIPE.steps + 1))
    assert {tag for tag in found if tag.startswith("val_f1/")} == {f"val_f1/{name}" for name in DATA.classes.names}


def test_curves_that_are_asked_for_late_begin_at_the_first_validation(tmp_path):
    with pytest.raises(PulledPlug):
        sitting(tmp_path / "checkpoints", None, 9)
    sitting(tmp_path / "checkpoints", tmp_path / "curves")
    assert [step for step, _ in read(tmp_path / "curves")["val/macro_f1"]] == [4, 8, 12, 13]


def test_a_training_is_the_same_with_and_without_curves(tmp_path):
    assert sitting(None, tmp_path).history == sitting(None, None).history
    config, recipe = archs.config("lale-s1"), recipe_named("smoke")
    plain, logged = (train_cell(config, "any", DATA, recipe, 0, "cpu", curves=to) for to in (None, tmp_path))
    assert plain.key == logged.key


@pytest.mark.slow
def test_a_study_has_the_curves_of_new_and_of_recorded_trainings(tmp_path):
    study = VariantStudy("curves", "Do they show?", [Variant.named("lale-s1")], instruments=("train",), figures=())
    recipe = replace(recipe_named("smoke"), steps=2, warmup_steps=0, eval_every=1, crop=16, batch=2)
    setting = Setting("terrain:size=16,train=4,val=4,test=4", recipe, (0,), size=(16, 16), out=tmp_path)
    run_study(plan_study(study, setting))
    plan = plan_study(study, replace(setting, seeds=(0, 1), log=True))
    assert "log" not in plan.manifest.setting
    folder = log_recorded(plan)
    assert [path.name[:15] for path in folder.iterdir()] == ["lale-s1-seed-0-"]
    run_study(plan)
    for path in folder.iterdir():
        assert [step for step, _ in read(path)["val/macro_f1"]] == [1, 2]
    assert len(list(folder.iterdir())) == 2


def test_an_unknown_tracker_and_a_missing_one_get_a_sentence(monkeypatch):
    with pytest.raises(BenchError, match="--log 'wandb' is not known; give --log tensorboard"):
        require_tracker("wandb")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(BenchError, match=r"pip install 'lale-bench\[tensorboard\]'"):
        require_tracker("tensorboard")
