"""Training: recipes as data, what a run keeps and when it stops, failures as results, pairing by the seed."""

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tinyland import CLASSES, IGNORED, still_network, tiny_network, tinyland
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import archs
from bench.data.bands import BandSpec, measure_bands
from bench.data.dataset import DataSet, Split
from bench.errors import BenchError
from bench.training.baseline import colour_baseline, majority_baseline
from bench.training.evaluate import NonFiniteError, predict
from bench.training.loop import initial_network
from bench.training.metrics import confusion, scores
from bench.training.recipe import RECIPES, Recipe, learning_rate, plateaus, recipe_named, should_stop, still_rising
from bench.training.tiles import HeldTiles, HostTiles, seed_everything
from bench.training.trainer import MovingAverage, shorten_norm_memory, train, train_config

SHORT = Recipe(steps=8, eval_every=4, batch=4, schedule="constant", early_stop=None)


def trained(recipe=SHORT, seed=0, data=None, network=tiny_network, **options):
    seed_everything(seed)
    model = network()
    return model, train(model, data or tinyland(), recipe, seed=seed, **options)


def same_weights(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# ------------------------------------------------------------------------------------------------------ recipes


def test_the_default_is_the_recipe_of_the_authors():
    recipe = Recipe()
    assert recipe == RECIPES["paper"]
    assert (recipe.batch, recipe.lr, recipe.weight_decay, recipe.clip) == (24, 1e-3, 0.01, 1.0)
    assert (recipe.loss, recipe.precision, recipe.schedule) == ("dice", "fp32", "plateau")
    assert (recipe.plateau_factor, recipe.plateau_patience, recipe.early_stop) == (0.1, 3, 5)
    assert (recipe.steps, recipe.eval_every) == (66_840, 3_342)
    assert recipe.eval_every * recipe.batch >= 80_192 > (recipe.eval_every - 1) * recipe.batch


def test_a_recipe_cannot_be_changed_but_replaced():
    with pytest.raises(FrozenInstanceError):
        Recipe().lr = 1.0
    assert replace(Recipe(), lr=0.5).lr == 0.5


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_its_dictionary(name):
    import json

    recipe = recipe_named(name)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_how_often_checkpoints_are_written_does_not_name_the_recipe():
    assert Recipe(checkpoint_every=7).to_dict() == Recipe().to_dict()


def test_fields_that_came_later_leave_old_records_valid():
    assert not {"ema", "select", "init"} & Recipe().to_dict().keys()
    changed = Recipe(ema=0.9, select="last", init="name")
    assert {"ema": 0.9, "select": "last", "init": "name"}.items() <= changed.to_dict().items()
    assert Recipe.from_dict(changed.to_dict()) == changed


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 1.5),
        ("eval_every", 0),
        ("early_stop", 0),
        ("checkpoint_every", -1),
        ("batch", True),
        ("crop", 0),
        ("lr", 0.0),
        ("lr", math.nan),
        ("lr", "fast"),
        ("weight_decay", -0.1),
        ("clip", 0),
        ("loss", "hinge"),
        ("schedule", "linear"),
        ("warmup_steps", -1),
        ("plateau_factor", 1.0),
        ("plateau_patience", 0),
        ("precision", "fp16"),
        ("channels_last", 1),
        ("ema", 1.0),
        ("ema", 0),
        ("select", "first"),
        ("init", "random"),
        ("flip_horizontal", 1.1),
        ("flip_vertical", -0.1),
        ("quarter_turn", math.nan),
        ("brightness_contrast", 2),
        ("brightness_limit", None),
        ("contrast_limit", 30),
    ],
)
def test_a_value_that_means_nothing_is_refused_by_name(field, value):
    with pytest.raises(BenchError, match=f"Recipe field {field} is {value!r}; it must be"):
        replace(Recipe(), **{field: value})


def test_a_warm_up_that_takes_the_whole_budget_is_refused():
    with pytest.raises(BenchError, match="warmup_steps is 10, which leaves none of the 10 steps"):
        Recipe(steps=10, warmup_steps=10)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(BenchError, match="no training recipe 'papper'; choose one of smoke, quick, standard, paper"):
        recipe_named("papper")
    with pytest.raises(BenchError, match="A recipe has no field 'epochs'; its fields are steps, "):
        Recipe.from_dict({"epochs": 3})


# ------------------------------------------------------------------------------------------------------ schedule


def test_cosine_warms_up_and_then_falls_from_the_full_rate_to_nearly_none():
    recipe = Recipe(steps=100, warmup_steps=9, schedule="cosine", lr=2.0)
    rates = [learning_rate(recipe, step, []) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[9] == pytest.approx(2.0)
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0 < rates[-1] < 0.001


def test_plateau_divides_the_rate_after_three_validations_without_a_better_one():
    recipe = Recipe()
    assert learning_rate(recipe, 9, [0.5, 0.6, 0.6, 0.59]) == pytest.approx(1e-3)
    assert learning_rate(recipe, 9, [0.5, 0.6, 0.6, 0.59, 0.6]) == pytest.approx(1e-4)
    assert learning_rate(recipe, 9, [0.5, 0.6, 0.6, 0.59, 0.6, 0.7]) == pytest.approx(1e-4)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=30), st.integers(1, 4))
def test_the_number_of_plateaus_never_falls_and_rising_values_have_none(values, patience):
    counts = [plateaus(values[:n], patience) for n in range(len(values) + 1)]
    assert counts == sorted(counts)
    assert counts[-1] <= len(values) / patience
    assert plateaus(sorted(set(values)), patience) == 0


def test_early_stopping_waits_its_patience_out():
    recipe = Recipe(early_stop=2)
    assert not should_stop(recipe, [])
    assert not should_stop(recipe, [0.5, 0.4])
    assert should_stop(recipe, [0.5, 0.4, 0.5])
    assert not should_stop(recipe, [0.5, 0.4, 0.5, 0.6])
    assert not should_stop(replace(recipe, early_stop=None), [0.5] * 50)


# ------------------------------------------------------------------------------------------------------ runs


def test_a_network_learns_far_beyond_the_majority_class():
    recipe = Recipe(steps=60, eval_every=20, batch=6, lr=0.03, schedule="cosine", channels_last=True)
    _, result = trained(recipe, data=tinyland(train=24))
    tested = result.test_confusions.sum(axis=0)
    majority = np.zeros_like(tested)
    majority[:, tested.sum(axis=1).argmax()] = tested.sum(axis=1)
    assert scores(majority).macro_f1 < 0.25
    assert scores(tested).macro_f1 > 0.8
    assert result.status == "ok"
    assert result.reason == ""
    assert [entry["step"] for entry in result.history] == [20, 40, 60]
    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_every_labelled_pixel_is_validated_and_tested_once():
    data = tinyland(12, 20)
    _, result = trained(data=data)
    for found, split in ((result.val_confusion, "val"), (result.test_confusions.sum(axis=0), "test")):
        truth = data[split].masks
        np.testing.assert_array_equal(found.sum(axis=1), [(truth == k).sum() for k in range(3)])
    assert result.test_confusions.shape == (4, 3, 3)
    assert (result.test_boundary_confusions <= result.test_confusions).all()
    assert 0 < result.test_boundary_confusions.sum() < result.test_confusions.sum()


def test_the_model_is_left_with_the_weights_of_the_best_validation():
    data = tinyland()
    recipe = replace(SHORT, steps=24, eval_every=2, lr=30.0)  # far too high: validations go up and down
    model, result = trained(recipe, data=data)
    best = max(result.history, key=lambda entry: entry["macro_f1"])
    assert result.best_step == best["step"] < result.steps
    assert scores(result.val_confusion).macro_f1 == best["macro_f1"]
    for split, expected in (("val", result.val_confusion), ("test", result.test_confusions.sum(axis=0))):
        found = confusion(predict(model, data[split].images), data[split].masks, 3, IGNORED)
        np.testing.assert_array_equal(found.sum(axis=0), expected)


def test_equal_seeds_give_equal_runs_and_others_differ():
    one, first = trained(seed=3)
    other, second = trained(seed=3)
    third, _ = trained(seed=4)
    assert same_weights(one, other)
    assert first.history == second.history
    assert not same_weights(one, third)


def test_the_test_is_left_alone_unless_asked_for():
    data = tinyland()
    without_test = DataSet(data.name, CLASSES, data.fingerprint, {k: data[k] for k in ("train", "val")})
    _, result = trained(data=without_test, test=False)
    assert result.test_confusions is result.test_boundary_confusions is None
    assert result.history == trained(data=data)[1].history
    with pytest.raises(BenchError, match="opened with the splits train, val, not test"):
        trained(data=without_test)


def test_training_stops_early_when_nothing_gets_better():
    recipe = replace(SHORT, steps=40, eval_every=2, early_stop=3, lr=1e-30)
    _, result = trained(recipe, network=still_network)
    assert result.steps == 8
    assert len(result.history) == 4
    assert result.best_step == 2


def test_variants_of_one_seed_see_the_same_batches():
    def seen(width):
        inputs = []
        model = tiny_network(width)
        model.register_forward_pre_hook(lambda module, args: inputs.append(args[0]) if module.training else None)
        train(model, tinyland(), replace(SHORT, crop=9), seed=5, test=False)
        return torch.stack(inputs)

    narrow, wide = seen(4), seen(11)
    assert narrow.shape == (8, 4, 3, 9, 9)
    assert torch.equal(narrow, wide)


def test_training_leaves_the_callers_random_numbers_alone():
    seed_everything(0)
    model = tiny_network()
    expected = torch.random.get_rng_state()
    train(model, tinyland(), SHORT, seed=1)
    assert torch.equal(torch.random.get_rng_state(), expected)


def test_a_memory_mapped_split_trains_to_the_same_weights(tmp_path):
    data = tinyland()
    held = data["train"]
    for name in ("images", "masks"):
        np.save(tmp_path / f"{name}.npy", getattr(held, name))
    images, masks = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("images", "masks"))
    mapped = Split("train", images, masks, held.tiles, held.digest)
    outside = DataSet(data.name, CLASSES, data.fingerprint, {**data.splits, "train": mapped})
    assert same_weights(trained(data=data)[0], trained(data=outside)[0])


def test_tiles_held_on_the_device_are_the_tiles_of_the_split():
    split, index = tinyland()["train"], torch.tensor([7, 0, 7, 3])
    for tiles in (HeldTiles(split, torch.device("cpu")), HostTiles(split, torch.device("cpu"))):
        images, masks = tiles.take(index)
        np.testing.assert_array_equal(images, split.images[[7, 0, 7, 3]])
        np.testing.assert_array_equal(masks, split.masks[[7, 0, 7, 3]])
        assert (len(tiles), tiles.size) == (12, (16, 16))


def test_progress_is_told_of_every_step():
    told = []
    trained(on_step=lambda *news: told.append(news))
    assert [(step, total) for step, total, _ in told] == [(step, 8) for step in range(1, 9)]
    assert all(0 < loss < 1 for _, _, loss in told)


def test_bf16_trains_weights_that_stay_float32():
    recipe = replace(SHORT, precision="bf16")
    model, result = trained(recipe)
    assert result.status == "ok"
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert not same_weights(model, trained()[0])


def test_gradients_are_clipped_to_the_norm_of_the_recipe():
    # One step of AdamW does not feel a gradient's scale, so the clipped gradient itself is looked at.
    norms = {}
    for clip in (None, 1e-3):
        model, _ = trained(replace(SHORT, steps=1, clip=clip))
        norms[clip] = torch.stack([p.grad.norm() for p in model.parameters()]).norm().item()
    assert norms[None] > 1e-2
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3)


class TwoHeads(nn.Module):
    """A network with an auxiliary head."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.extra = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 1), nn.Conv2d(6, 3, 1)

    def forward(self, x):
        return self.head(self.body(x))

    def forward_aux(self, x):
        features = self.body(x)
        return self.head(features), [(0.5, self.extra(features))]


def test_an_auxiliary_head_trains_along():
    seed_everything(0)
    before = TwoHeads().extra.weight.clone()
    model, _ = trained(network=TwoHeads)
    assert (model.extra.weight - before).abs().max() > 1e-3


# ------------------------------------------------------------------------------------------- which weights are kept


def test_the_last_weights_are_kept_where_the_recipe_says_so():
    recipe = replace(SHORT, steps=24, eval_every=2, lr=30.0)  # validations go up and down
    best, _ = trained(recipe)
    last, result = trained(replace(recipe, select="last"))
    until_the_end, _ = trained(replace(recipe, eval_every=24))
    assert result.best_step == 24
    assert scores(result.val_confusion).macro_f1 == result.history[-1]["macro_f1"]
    assert same_weights(last, until_the_end)
    assert not same_weights(last, best)


def test_averaged_weights_are_the_moving_average_of_every_step():
    decay, data = 0.6, tinyland()
    recipe = replace(SHORT, ema=decay, select="last")
    after = []
    for steps in range(1, SHORT.steps + 1):
        seed_everything(0)
        model = tiny_network()
        train(model, data, replace(SHORT, steps=steps, eval_every=99, select="last"), seed=0)
        after.append(model.state_dict())
    expected = after[0]
    for number, newest in enumerate(after[1:], start=1):
        share = min(decay, (1 + number) / (10 + number))
        expected = {name: share * expected[name] + (1 - share) * value for name, value in newest.items()}
    model, result = trained(recipe, data=data)
    for name, value in model.state_dict().items():
        if value.is_floating_point():  # batch norm's statistics as well
            torch.testing.assert_close(value, expected[name], msg=name)
    found = confusion(predict(model, data["val"].images), data["val"].masks, 3, IGNORED).sum(axis=0)
    np.testing.assert_array_equal(found, result.val_confusion)


class OneDeviceEach(TorchDispatchMode):
    """Refuses what reads from one device and writes to another: on a GPU it waits until the device has caught up."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, found))
        assert len({leaf.device for leaf in leaves if isinstance(leaf, Tensor)}) < 2, function
        return found


def test_averaging_never_waits_for_the_device():
    model = tiny_network().to("meta")
    average = MovingAverage(model, 0.9)
    with OneDeviceEach():
        for _ in range(3):
            average.update(model)  # a number that lay on the meta device could not be read
    assert (average.n_averaged.device.type, int(average.n_averaged)) == ("cpu", 3)


def test_what_is_averaged_trains_as_if_it_were_not():
    losses = [[entry["loss"] for entry in trained(replace(SHORT, ema=ema))[1].history] for ema in (None, 0.9)]
    assert losses[0] == losses[1]


# ------------------------------------------------------------------------------------------------- initial weights


@pytest.mark.parametrize("name", ["lale-s1", "lwganet-l0", "smp/linknet-mobilenet_v2"])
def test_initial_weights_by_name_are_those_of_the_networks_own_distribution(name):
    config, recipe = archs.config(name), Recipe(init="name")
    own, ours = initial_network(config, 5, 3, Recipe(), 0), initial_network(config, 5, 3, recipe, 0)
    again, other = initial_network(config, 5, 3, recipe, 0), initial_network(config, 5, 3, recipe, 1)
    assert same_weights(ours, again)
    changed = 0
    for (key, a), b, c in zip(own.named_parameters(), ours.parameters(), other.parameters(), strict=True):
        if a.numel() < 2 or a.std() == 0:
            assert torch.equal(a, b), key  # a constant stays one
            continue
        assert not torch.equal(a, b) and not torch.equal(b, c), key
        changed += a.numel()
        if a.numel() > 5000:
            assert b.std().item() == pytest.approx(a.std().item(), rel=0.1), key
            assert b.abs().max().item() == pytest.approx(a.abs().max().item(), rel=0.3), key
    assert changed > 0.9 * sum(p.numel() for p in own.parameters())


def test_variants_share_initial_weights_by_name_where_shapes_agree():
    one, other = (
        dict(initial_network(archs.config("lale-s1", **fields), 5, 3, Recipe(init="name"), 7).named_parameters())
        for fields in ({}, {"conv_stages": 1, "norm": "batchnorm"})
    )
    shared = [name for name in one.keys() & other.keys() if one[name].shape == other[name].shape]
    assert len(shared) > 50
    assert all(torch.equal(one[name], other[name]) for name in shared)
    by_order = [
        dict(initial_network(archs.config("lale-s1", **fields), 5, 3, Recipe(), 7).named_parameters())
        for fields in ({}, {"conv_stages": 1})
    ]
    assert not all(torch.equal(by_order[0][n], by_order[1][n]) for n in shared if n in by_order[1])


# ------------------------------------------------------------------------------------------------------ bands


def test_networks_are_built_for_the_bands_of_the_data_and_train_on_them():
    data = tinyland(32, 32, train=4)
    splits = {
        name: replace(split, images=np.concatenate([split.images, split.images[..., :2]], -1) * np.uint16(200))
        for name, split in data.splits.items()
    }
    many = replace(
        data,
        splits=splits,
        bands=measure_bands(splits["train"].images, splits["train"].masks, 3, [*map(BandSpec, "abcde")]),
    )
    recipe = replace(RECIPES["smoke"], steps=2, eval_every=2, warmup_steps=0, batch=2, crop=None)
    model, result = train_config(archs.config("lale-s1"), many, recipe, 0)
    assert result.status == "ok"
    assert next(model.parameters()).shape[1] == 5
    assert predict(model, splits["test"].images, bands=many.bands).shape == (4, 32, 32)
    colour, majority = (scores(baseline(many)).macro_f1 for baseline in (colour_baseline, majority_baseline))
    assert 1 > colour > majority + 0.2


# ------------------------------------------------------------------------------------------------------ still rising


def history(*scores, every=10):
    return [{"step": every * (i + 1), "macro_f1": score} for i, score in enumerate(scores)]


@pytest.mark.parametrize(
    ("scores", "rising"),
    [
        ((), True),
        ((0.5,), True),  # nothing before its last fifth
        ((0.50, 0.60, 0.70, 0.71, 0.7101), False),  # its best is its last, by a hundredth of a point
        ((0.50, 0.60, 0.70, 0.71, 0.7099), False),
        ((0.50, 0.60, 0.70, 0.70, 0.70, 0.70, 0.70, 0.70, 0.704, 0.70), True),  # the last fifth brought 0.4 points
        ((0.50, 0.60, 0.70, 0.70, 0.70, 0.70, 0.70, 0.70, 0.702, 0.70), False),
        ((0.70, 0.60, 0.50, 0.40, 0.30), False),
    ],
)
def test_a_training_was_still_rising_if_its_end_brought_something(scores, rising):
    assert still_rising(history(*scores)) is rising


# ------------------------------------------------------------------------------------------------------ failures


def test_a_run_that_turns_non_finite_is_a_failed_result():
    _, result = trained(replace(SHORT, lr=1e30, clip=None))
    assert result.status == "failed"
    assert result.reason == "The loss or its gradient became non-finite at step 2."
    assert result.steps == 2
    assert result.best_step == 0
    assert result.val_confusion is result.test_confusions is None


def test_logits_that_turn_non_finite_at_a_validation_fail_the_run():
    _, result = trained(replace(SHORT, lr=1e30, eval_every=1))
    assert (result.status, result.reason) == ("failed", "The logits became non-finite by step 1.")


def test_a_crop_larger_than_the_tiles_is_refused():
    with pytest.raises(BenchError, match="crop is 17 px, which does not fit tiles of 16 x 16 px"):
        trained(replace(SHORT, crop=17))


def test_a_validation_split_without_labels_is_refused():
    data = tinyland()
    data["val"].masks[:] = IGNORED
    with pytest.raises(BenchError, match="tinyland cannot be used: No pixel of the split val has a label"):
        trained(data=data)


# ------------------------------------------------------------------------------------------------------ prediction


def test_prediction_is_the_largest_logit_and_leaves_the_mode():
    data = tinyland()
    model = tiny_network().train()
    found = predict(model, data["test"].images, batch=3)
    assert model.training
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, predict(model, data["test"].images, batch=1))
    assert predict(model, data["test"].images[:0]).shape == (0, 16, 16)


def test_prediction_refuses_logits_that_are_not_finite():
    model = tiny_network()
    with torch.no_grad():
        model[-1].bias[1] = math.inf
    with pytest.raises(NonFiniteError, match="logits that are not finite"):
        predict(model, tinyland()["test"].images)


def test_a_registered_network_trains_from_its_config():
    recipe = replace(RECIPES["smoke"], steps=2, eval_every=2, warmup_steps=0, batch=2, crop=None)
    data = tinyland(32, 32, train=4)
    model, result = train_config(archs.config("lale-s1"), data, recipe, 0)
    again, same = train_config(archs.config("lale-s1"), data, recipe, 0)
    assert result.status == "ok"
    assert result.test_confusions.shape == (4, 3, 3)
    assert same_weights(model, again)
    assert result.history == same.history


def test_no_batch_norm_remembers_longer_than_a_tenth_of_the_training():
    model = nn.Sequential(
        nn.BatchNorm2d(3, momentum=0.01), nn.BatchNorm2d(3, momentum=0.5), nn.BatchNorm2d(3, momentum=None)
    )
    shorten_norm_memory(model, 100)
    assert [norm.momentum for norm in model] == [0.1, 0.5, None]
    shorten_norm_memory(model, 10_000)
    assert [norm.momentum for norm in model] == [0.1, 0.5, None]
    shorten_norm_memory(model, 5)
    assert [norm.momentum for norm in model] == [1.0, 1.0, None]


def test_a_network_with_a_long_norm_memory_is_scored_on_what_it_has_learned():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8, momentum=1e-4), nn.Conv2d(8, CLASSES.num_classes, 1)
    )
    result = train(model, tinyland(), SHORT, seed=0)
    assert (model[1].running_var - 1).abs().min() > 0.1  # the initial value is forgotten
    assert result.status == "ok"
