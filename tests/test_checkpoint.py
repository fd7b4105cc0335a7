"""Checkpoints: a run that was stopped anywhere ends as if it never had been, and nothing bad is ever loaded."""

import copy
import pickle
import resource
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tinyland import still_network, tiny_network, tinyland
from torch import nn

from bench.errors import BenchError
from bench.training.checkpoint import CHECKPOINT, load_weights, save_weights
from bench.training.recipe import Recipe
from bench.training.tiles import seed_everything
from bench.training.trainer import train

RECIPE = Recipe(
    steps=13, eval_every=4, checkpoint_every=3, batch=4, crop=12, lr=0.02, early_stop=None, channels_last=True
)
DATA = tinyland()


class PulledPlug(Exception):
    """What stops a run in the middle."""


def stop_at(step):
    def on_step(done, total, loss):
        if done == step:
            raise PulledPlug

    return on_step


def sitting(folder=None, recipe=RECIPE, seed=0, on_step=None, model=None):
    """One process's attempt at the run: it builds the network anew, as a new process would."""
    if model is None:
        seed_everything(seed)
        model = tiny_network()
    return model, train(model, DATA, recipe, seed=seed, folder=folder, on_step=on_step)


@pytest.fixture(scope="module")
def straight():
    return sitting()


def assert_same_run(one, other):
    (model, result), (model_2, result_2) = one, other
    for name, value in model.state_dict().items():
        assert torch.equal(value, model_2.state_dict()[name]), name
    assert result.history == result_2.history
    assert result.best_step == result_2.best_step
    np.testing.assert_array_equal(result.val_confusion, result_2.val_confusion)
    np.testing.assert_array_equal(result.test_confusions, result_2.test_confusions)
    np.testing.assert_array_equal(result.test_boundary_confusions, result_2.test_boundary_confusions)


@pytest.mark.parametrize("stops", [[1], [3], [4], [7], [12], [13], [2, 5, 11]])
def test_a_run_that_was_stopped_ends_as_if_it_never_had_been(tmp_path, straight, stops):
    for step in stops:
        with pytest.raises(PulledPlug):
            sitting(tmp_path, on_step=stop_at(step))
    assert_same_run(sitting(tmp_path), straight)


def test_a_run_in_bf16_with_another_schedule_resumes_alike(tmp_path):
    recipe = replace(RECIPE, schedule="cosine", precision="bf16", loss="dice+ce", channels_last=False)
    with pytest.raises(PulledPlug):
        sitting(tmp_path, recipe, on_step=stop_at(5))
    assert_same_run(sitting(tmp_path, recipe), sitting(recipe=recipe))


@pytest.mark.parametrize("changes", [{"ema": 0.8}, {"select": "last"}, {"ema": 0.8, "select": "last"}])
def test_a_run_that_averages_or_keeps_the_last_weights_resumes_alike(tmp_path, changes):
    recipe = replace(RECIPE, **changes)
    for step in (4, 7):
        with pytest.raises(PulledPlug):
            sitting(tmp_path, recipe, on_step=stop_at(step))
    assert_same_run(sitting(tmp_path, recipe), sitting(recipe=recipe))


def test_a_run_names_the_threads_of_all_its_sittings(tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with pytest.raises(PulledPlug):
            sitting(tmp_path, on_step=stop_at(5))
        torch.set_num_threads(2)
        assert sitting(tmp_path)[1].threads == [1, 2]
    finally:
        torch.set_num_threads(before)


def test_a_resumed_run_repeats_no_more_than_the_checkpoint_interval(tmp_path):
    with pytest.raises(PulledPlug):
        sitting(tmp_path, on_step=stop_at(11))
    steps = []
    sitting(tmp_path, on_step=lambda step, total, loss: steps.append(step))
    assert steps == [10, 11, 12, 13]


def test_a_finished_run_trains_no_further_and_says_the_same(tmp_path, straight):
    sitting(tmp_path)
    assert_same_run(sitting(tmp_path, on_step=stop_at(1)), straight)


def test_an_early_stop_is_not_forgotten_by_a_resumed_run(tmp_path):
    recipe = replace(RECIPE, early_stop=1, lr=1e-30, steps=20)
    seed_everything(0)
    model = still_network()
    again = copy.deepcopy(model)
    first = sitting(tmp_path, recipe, model=model)
    assert first[1].steps == 8
    assert_same_run(sitting(tmp_path, recipe, model=again, on_step=stop_at(9)), first)


def test_ctrl_c_passes_through_and_the_run_goes_on_later(tmp_path, straight):
    def interrupt(step, total, loss):
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sitting(tmp_path, on_step=interrupt)
    assert_same_run(sitting(tmp_path), straight)


def test_the_folder_holds_one_checkpoint_and_the_best_weights_and_nothing_else(tmp_path):
    model, result = sitting(tmp_path)
    best = tmp_path / f"best-{result.best_step:06d}.safetensors"
    assert sorted(tmp_path.iterdir()) == sorted([best, tmp_path / CHECKPOINT])
    for name, value in load_file(best).items():
        assert torch.equal(value, model.state_dict()[name])


def test_another_runs_checkpoint_is_refused_and_kept(tmp_path):
    sitting(tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    others = [
        {"seed": 1},
        {"recipe": replace(RECIPE, lr=0.5)},
        {"model": tiny_network(9)},
        {"model": nn.Sequential(*tiny_network()[:3], nn.Dropout2d(0.3), nn.Conv2d(8, 3, 1))},
    ]
    for other in others:
        with pytest.raises(BenchError, match="is of another run"):
            sitting(tmp_path, **other)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\0" * 64])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, damage):
    sitting(tmp_path)
    path = tmp_path / CHECKPOINT
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BenchError, match=r"checkpoint\.safetensors cannot be read .* delete it"):
        sitting(tmp_path)


def test_lost_best_weights_are_named(tmp_path):
    _, result = sitting(tmp_path)
    (tmp_path / f"best-{result.best_step:06d}.safetensors").unlink()
    with pytest.raises(BenchError, match=r"no weights file .*best-"):
        sitting(tmp_path)


@contextmanager
def files_limited_to(size):
    """Writing beyond `size` bytes fails as on a full disk: the operating system refuses."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_full_disk_is_told_and_leaves_the_last_checkpoint(tmp_path, straight):
    with pytest.raises(PulledPlug):
        sitting(tmp_path, on_step=stop_at(7))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with files_limited_to(256), pytest.raises(BenchError, match=f"Cannot write .* in the folder {tmp_path}"):
        sitting(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert_same_run(sitting(tmp_path), straight)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BenchError, match=r"Cannot write .* in the folder"):
        sitting(tmp_path / "file")


# ------------------------------------------------------------------------------------------------------ weights


def test_weights_come_back_whole_whatever_their_layout(tmp_path):
    seed_everything(1)
    model = tiny_network().to(memory_format=torch.channels_last)
    model(torch.randn(4, 3, 8, 8))  # moves the batch norm's statistics and its counter
    save_weights(model, tmp_path / "w.safetensors")
    other = tiny_network()
    load_weights(other, tmp_path / "w.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    assert other[1].num_batches_tracked == 1


def test_tied_weights_are_saved(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    save_weights(model, tmp_path / "tied.safetensors")
    load_weights(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), tmp_path / "tied.safetensors")


def test_weights_of_another_architecture_are_refused_and_change_nothing(tmp_path):
    path = tmp_path / "other.safetensors"
    weights = {f"deeper.{name}": value for name, value in list(tiny_network(9).state_dict().items())[:1]}
    save_file({**weights, **dict(list(tiny_network(9).state_dict().items())[1:])}, path)
    model = tiny_network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = "1 of the model's 9 tensors are missing, 1 are unexpected, 6 have another shape .first: 0.bias"
    with pytest.raises(BenchError, match=f"other.safetensors are of another architecture: {expected}"):
        load_weights(model, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_pickle_is_never_opened(tmp_path):
    for name in ("weights.safetensors", "weights.pth"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(PulledPlug()))
        with pytest.raises(BenchError, match="is no readable safetensors file"):
            load_weights(tiny_network(), path)
    with pytest.raises(BenchError, match="There is no weights file"):
        load_weights(tiny_network(), tmp_path / "nowhere.safetensors")
