"""Training: against a bare loop, resumed against uninterrupted, and on data that can be learned."""

import copy
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from features.frontend import CONTEXT, with_deltas
from models.batches import Channels, Clips, Targets, batches
from models.fit import Diverged, Epoch, Fit, Snapshot, to_channels_last
from models.losses import Kl
from models.mobnet import Mobnet
from models.prediction import Predictions, predict
from models.recipe import KlSettings, Recipe, SgdSettings
from models.seeding import seeded
from models.static import Static
from tests.models.toys import DELTAS, SPEC, clips

EVERYTHING = Recipe(  # all that is random is on
    cycle_ends=(1, 3, 5),
    batch_size=4,
    crop_frames=12,
    mixup_alpha=0.4,
    mel_mask=3,
    time_mask=3,
    soft_weight=0.5,
    temperature=3.0,
    moving_average=0.8,
)
SGD = SgdSettings(weight_decay=0.01)
NOTHING = replace(EVERYTHING, crop_frames=16, mixup_alpha=0, mel_mask=0, time_mask=0, soft_weight=0)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def student(seed: int = 0, groups: int = 2, **changes: float) -> Mobnet:
    with seeded("test", seed):
        return Mobnet(replace(SPEC, **changes), channels=3, scenes=3, groups=groups)  # pyright: ignore[reportArgumentType]


def row(epoch: Epoch) -> dict[str, Any]:
    """What of an epoch must be reproducible: all but the clock."""
    return {
        "number": epoch.number,
        "loss": epoch.loss,
        "learning_rate": epoch.learning_rate,
        "cycle_end": epoch.cycle_end,
        "scene": validated(epoch).scene.tolist(),
        "group": validated(epoch).group.tolist(),
    }


def validated(epoch: Epoch) -> Predictions:
    assert epoch.validation is not None
    return epoch.validation


def run(
    recipe: Recipe, seed: int = 0, model: Mobnet | None = None, resume: Snapshot | None = None
) -> tuple[list[dict[str, Any]], list[Snapshot]]:
    """Rows and snapshots of every epoch, validated on other clips than trained on."""
    rows, snapshots = [], []
    for epoch in Fit(model or student(), clips(), clips(7, seed=1).static, recipe, DELTAS, seed=seed, resume=resume):
        rows.append(row(epoch))
        snapshots.append(epoch.snapshot())
    return rows, snapshots


@cache
def uninterrupted() -> tuple[list[dict[str, Any]], list[Snapshot]]:
    return run(EVERYTHING)


def equal(one: Snapshot, other: Snapshot) -> bool:
    assert one.model.keys() == other.model.keys() and one.optimiser.keys() == other.optimiser.keys()
    assert one.moving.keys() == other.moving.keys()
    return one.epoch == other.epoch and all(
        torch.equal(ours[name], theirs[name])
        for ours, theirs in ((one.model, other.model), (one.optimiser, other.optimiser), (one.moving, other.moving))
        for name in ours
    )


# the loop


def test_epochs_are_numbered_from_one_and_cycles_end_where_the_recipe_says():
    rows, snapshots = uninterrupted()
    assert [(row["number"], row["cycle_end"]) for row in rows] == [
        (1, True),
        (2, False),
        (3, True),
        (4, False),
        (5, True),
    ]
    assert [snapshot.epoch for snapshot in snapshots] == [1, 2, 3, 4, 5]


def test_the_rate_moves_with_every_step():
    rows, _ = run(replace(NOTHING, cycle_ends=(1, 3), batch_size=5))
    # Two steps an epoch: the last begins half an epoch before the end. Cosines of pi/2; pi/4, 3 pi/4.
    mean, swing = 0.050005, 0.049995
    expected = [mean, mean + swing * 0.5**0.5, mean - swing * 0.5**0.5]
    assert [row["learning_rate"] for row in rows] == pytest.approx(expected, rel=1e-9)


def bare_loop(model: Mobnet, recipe: Recipe, rates: list[float]) -> list[float]:
    """Full-batch SGD with momentum and weight decay, the paper's joint loss and a teacher, written out once more."""
    data = clips()
    x = with_deltas(data.static.values.float())
    parameters = list(model.parameters())
    velocity = [torch.zeros_like(parameter) for parameter in parameters]
    losses = []
    for rate in rates:
        scene, group = model.train()(x)
        loss = torch.zeros(())
        group_weight = recipe.soft_weight if recipe.group_soft_weight is None else recipe.group_soft_weight
        for share, logits, hard, soft, weight in (
            (0.9, scene, data.scene, data.soft_scene, recipe.soft_weight),
            (0.1, group, data.group, data.soft_group, group_weight),
        ):
            assert soft is not None
            entropy = -(hard * logits.log_softmax(1)).sum(1).mean()
            teacher, heat = (soft / recipe.temperature).softmax(1), recipe.temperature
            divergence = (teacher * (teacher.log() - (logits / heat).log_softmax(1))).sum(1).mean() * heat**2
            loss = loss + share * ((1 - weight) * entropy + weight * divergence)
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, v, gradient in zip(parameters, velocity, gradients, strict=True):
                v.mul_(0.9).add_(gradient + SGD.weight_decay * parameter)
                parameter.sub_(rate * v)
    return losses


@pytest.mark.parametrize(("soft_weight", "group_soft_weight"), [(0.0, None), (0.7, None), (1.0, 0.0), (0.0, 0.6)])
def test_without_augmentation_it_is_plain_sgd(soft_weight, group_soft_weight):
    recipe = replace(
        NOTHING,
        cycle_ends=(4,),
        batch_size=16,
        learning_rate=0.02,
        optimiser=SGD,
        soft_weight=soft_weight,
        group_soft_weight=group_soft_weight,
    )
    ours, theirs = student(dropout=0.0), student(dropout=0.0)
    rows, snapshots = run(recipe, model=ours)
    # One step an epoch, at the beginning of it: 0, 1/4, 1/2 and 3/4 of the cycle.
    mean, swing = (0.02 + 1e-5) / 2, (0.02 - 1e-5) / 2
    rates = [mean + swing * cosine for cosine in (1, 0.5**0.5, 0, -(0.5**0.5))]
    losses = bare_loop(theirs, recipe, rates)
    assert rows[0]["loss"] == pytest.approx(losses[0], rel=1e-6)
    assert [row["loss"] for row in rows] == pytest.approx(losses, rel=1e-4)
    assert losses[-1] < losses[0]
    for name, value in theirs.state_dict().items():
        assert torch.allclose(snapshots[-1].model[name], value, atol=1e-4), name


def test_the_loss_is_a_mean_over_clips_not_over_batches():
    """With a rate of nothing the model stands still, and each batch's loss can be taken again."""
    recipe = replace(EVERYTHING, cycle_ends=(1,), learning_rate=1e-30, final_learning_rate=0.0, batch_size=7)
    data, model = clips(9), student(dropout=0.0)
    sizes, losses = [], []
    for x, targets in batches(data, recipe, DELTAS, seed=3, epoch=1):
        sizes.append(len(x))
        losses.append(Kl(KlSettings(), recipe)(model.train()(x), targets).item())
    (epoch,) = Fit(student(dropout=0.0), data, data.static, recipe, DELTAS, seed=3)
    assert sorted(sizes) == [4, 5]
    assert epoch.loss == pytest.approx(sum(map(float.__mul__, losses, map(float, sizes))) / 9, rel=1e-6)
    assert abs(losses[0] - losses[1]) > 1e-3


def test_a_separable_toy_is_learned_completely():
    """Each scene is loud in a band of its own; new clips of it are told without a mistake."""

    def toy(count: int, seed: int) -> Clips:
        scene = torch.arange(count) % 3
        static = torch.rand(count, 16, 24, generator=torch.Generator().manual_seed(seed)) * 0.3
        for clip, label in enumerate(scene.tolist()):
            static[clip, 5 * label : 5 * label + 5] += 0.6
        return Clips(Static.of(static.half()), torch.eye(3)[scene], torch.eye(2)[(scene == 2).long()])

    recipe = replace(NOTHING, cycle_ends=(2, 6, 14), batch_size=8, crop_frames=12)
    test = toy(30, seed=2)
    *_, last = Fit(student(dropout=0.0), toy(48, seed=1), test.static, recipe, DELTAS, seed=0)
    assert torch.equal(validated(last).scene.argmax(1), test.scene.argmax(1))
    assert torch.equal(validated(last).group.argmax(1), test.group.argmax(1))
    assert last.loss < 0.5


# reproducibility


@pytest.mark.parametrize("boundary", [1, 2, 3, 4])
def test_resumed_equals_uninterrupted_bit_for_bit(boundary):
    rows, snapshots = uninterrupted()
    given = snapshots[boundary - 1]
    before = copy.deepcopy(given)
    torch.manual_seed(boundary)  # the caller's generator has no say
    resumed_rows, resumed = run(EVERYTHING, model=student(seed=99), resume=given)
    assert resumed_rows == rows[boundary:]
    for one, other in zip(resumed, snapshots[boundary:], strict=True):
        assert equal(one, other)
    assert equal(given, before)  # what was given is still what it was


def test_the_moving_average_begins_anew_with_each_cycle():
    """By hand, with one step an epoch: snapshots then hold the weights after every step."""
    recipe = replace(EVERYTHING, batch_size=100)
    model = student()
    first = {name: value.detach().clone() for name, value in model.named_parameters()}
    _, (one, two, three, *_) = run(recipe, model=model)
    for name in first:
        torch.testing.assert_close(one.moving[name], 0.8 * first[name] + 0.2 * one.model[name])
        expected = 0.8 * (0.8 * one.model[name] + 0.2 * two.model[name]) + 0.2 * three.model[name]
        torch.testing.assert_close(three.moving[name], expected)
    _, (without, *_) = run(replace(recipe, moving_average=0))
    assert without.moving == {} and torch.equal(without.model["shared.conv.weight"], one.model["shared.conv.weight"])


def test_nothing_is_left_to_do_after_the_last_epoch():
    rows, _ = run(EVERYTHING, resume=uninterrupted()[1][-1])
    assert rows == []


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    rows, snapshots = uninterrupted()
    torch.rand(11)
    again, states = run(EVERYTHING)
    assert again == rows and all(map(equal, states, snapshots))
    other, _ = run(replace(EVERYTHING, cycle_ends=(1,)), seed=1)
    assert other[0]["loss"] != rows[0]["loss"]


def test_dropout_is_drawn_anew_for_each_seed_and_epoch():
    """Of one clip many times over, at a rate of nothing, dropout alone tells one epoch's loss from another's."""
    one = clips()
    first = torch.zeros(10, dtype=torch.int64)
    data = Clips(replace(one.static, rows=first), one.scene[first], one.group[first])
    recipe = replace(NOTHING, cycle_ends=(2,), batch_size=16, learning_rate=1e-30, final_learning_rate=0.0)

    def losses(dropout: float) -> list[float]:
        model = student(dropout=dropout)
        return [epoch.loss for seed in (1, 2) for epoch in Fit(model, data, data.static, recipe, DELTAS, seed=seed)]

    drawn = losses(0.3)
    assert len(drawn) == 4
    for index, loss in enumerate(drawn):
        assert all(abs(loss - other) > 1e-4 for other in drawn[:index])
    assert losses(0.0) == pytest.approx([losses(0.0)[0]] * 4, rel=1e-6)


def test_the_callers_generator_is_untouched_and_has_no_say():
    rows = []
    for epoch in Fit(student(), clips(), clips(7, seed=1).static, EVERYTHING, DELTAS, seed=0):
        rows.append(row(epoch))
        torch.manual_seed(epoch.number)  # a consumer that draws between epochs
        before = torch.get_rng_state()
        predict(student(), clips().static, DELTAS)
        assert torch.equal(torch.get_rng_state(), before)
    assert rows == uninterrupted()[0]
    torch.manual_seed(8)
    before = torch.get_rng_state()
    run(replace(EVERYTHING, cycle_ends=(1,)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_snapshot_is_a_copy():
    epochs = iter(Fit(student(), clips(), clips().static, EVERYTHING, DELTAS, seed=0))
    snapshot = next(epochs).snapshot()
    kept = [value.clone() for part in (snapshot.model, snapshot.optimiser) for value in part.values()]
    next(epochs)
    now = [value for part in (snapshot.model, snapshot.optimiser) for value in part.values()]
    assert all(map(torch.equal, kept, now))
    assert equal(snapshot, uninterrupted()[1][0])


def test_a_snapshot_holds_everything_in_the_plain_layout():
    model = student()
    snapshot = uninterrupted()[1][0]
    assert snapshot.model.keys() == model.state_dict().keys()
    assert snapshot.optimiser.keys() == dict(model.named_parameters()).keys()
    assert all(value.is_contiguous() for value in (snapshot.model | snapshot.optimiser).values())
    assert {field.name for field in fields(Snapshot)} == {"epoch", "model", "optimiser", "moving"}
    assert snapshot.moving.keys() == snapshot.optimiser.keys()
    assert any(value.any() for value in snapshot.optimiser.values())


def test_training_without_momentum_can_be_snapshot_and_resumed():
    recipe = replace(EVERYTHING, cycle_ends=(2,), optimiser=SgdSettings(momentum=0.0))
    rows, snapshots = run(recipe)
    assert run(recipe, model=student(seed=5), resume=snapshots[0])[0] == rows[1:]


# divergence


def test_an_absurd_rate_diverges_and_says_so():
    recipe = replace(NOTHING, cycle_ends=(3,), learning_rate=1e12)
    epochs = iter(Fit(student(), clips(), clips().static, recipe, DELTAS, seed=0))
    with pytest.raises(Diverged, match=r"nan in epoch 1; lower learning_rate \(1e\+12\)"):
        next(epochs)


def test_a_clip_that_is_not_a_number_diverges():
    data = clips()
    static = data.static.values.clone()
    static[3, 2, 5] = torch.nan
    with pytest.raises(Diverged, match="epoch 1"):
        next(iter(Fit(student(), replace(data, static=Static.of(static)), data.static, NOTHING, DELTAS, seed=0)))


def test_predictions_that_are_not_numbers_are_divergence_too():
    """One step an epoch: the loss before it is fine, the model after it is not."""
    recipe = replace(NOTHING, cycle_ends=(1,), batch_size=16, learning_rate=1e12)
    with pytest.raises(Diverged):
        list(Fit(student(), clips(), clips().static, recipe, DELTAS, seed=0))


# predictions and losses


def test_predictions_are_the_softmax_of_whole_clips():
    model = student().double()  # so that batches of another size round alike
    static = clips(70).static.values  # three evaluation batches
    wide = Channels(lambda values: with_deltas(values.double()), CONTEXT)
    model.train()(wide.expand(static))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    done = predict(model.train(), Static.of(static), wide)
    assert not model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        scene, group = model.eval()(wide.expand(static))
    assert torch.allclose(done.scene, torch.exp(scene) / torch.exp(scene).sum(1, keepdim=True))
    assert torch.allclose(done.group, torch.exp(group) / torch.exp(group).sum(1, keepdim=True))
    assert done.scene.shape == (70, 3) and done.group.shape == (70, 2)


def test_shifted_clips_are_averaged():
    """By hand: the mean over the clip, and over the clip rotated by three frames, of what the model says of each."""
    model, static = student(), torch.rand(5, 16, 24).half()
    whole, rotated = (predict(model, Static.of(part), DELTAS).scene for part in (static, static.roll(-3, 2)))
    both = predict(model, Static.of(static), DELTAS, shifts=(0, 3))
    torch.testing.assert_close(both.scene, (whole + rotated) / 2)
    torch.testing.assert_close(both.scene.sum(1), torch.ones(5))
    assert not torch.allclose(whole, rotated, atol=1e-4)


def test_nothing_to_validate_is_nothing_predicted():
    predictions = predict(student(), Static.of(torch.empty(0, 16, 24).half()), DELTAS)
    assert predictions.scene.shape == (0, 3) and predictions.group.shape[0] == 0


def test_an_epoch_is_validated_with_the_weights_it_ends_with():
    model, other = student(), student(seed=7)
    static = clips(7, seed=1).static
    for epoch in Fit(model, clips(), static, replace(EVERYTHING, cycle_ends=(2,)), DELTAS, seed=0):
        other.load_state_dict(epoch.snapshot().model)
        to_channels_last(other)
        assert torch.equal(predict(other, static, DELTAS).scene, validated(epoch).scene)


def test_only_cycle_ends_and_every_few_epochs_are_validated_and_training_is_the_same():
    recipe = Recipe(cycle_ends=(3, 7), crop_frames=8, batch_size=4)
    runs = [
        list(Fit(student(), clips(), clips(seed=1).static, recipe, DELTAS, seed=0, validate_every=every))
        for every in (1, 5)
    ]
    assert [epoch.number for epoch in runs[1] if epoch.validation is not None] == [3, 5, 7]
    for often, seldom in zip(*runs, strict=True):
        assert seldom.loss == often.loss
        if seldom.validation is not None:
            assert torch.equal(validated(seldom).scene, validated(often).scene)


def test_joint_loss_by_hand():
    """Odds of 1 to 3 in both classifiers: ln 4 where the label is the first class, ln(4/3) where the second."""
    ln3 = torch.tensor(3.0).log().item()
    logits = torch.tensor([[0.0, ln3]]), torch.tensor([[0.0, ln3]])
    targets = Targets(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), None, None)
    first, second = torch.tensor(4.0).log().item(), torch.tensor(4 / 3).log().item()
    assert Kl(KlSettings(), Recipe())(logits, targets).item() == pytest.approx(0.9 * first + 0.1 * second)
    other = Kl(KlSettings(), Recipe(scene_weight=0.25))
    assert other(logits, targets).item() == pytest.approx(0.25 * first + 0.75 * second)


def test_without_groups_the_scene_classifier_is_trained_alone():
    """Its loss keeps its share of the sum, 0.9."""
    data = replace(clips(), group=torch.zeros(10, 0), soft_group=torch.zeros(10, 0))
    model = student(groups=0, dropout=0.0)
    logits = copy.deepcopy(model).train()(with_deltas(data.static.values.float()))[0]
    entropy = -(data.scene * logits.log_softmax(1)).sum(1).mean().item()
    recipe = replace(NOTHING, cycle_ends=(1,), batch_size=16)
    (epoch,) = Fit(model, data, data.static, recipe, DELTAS, seed=0)
    assert epoch.loss == pytest.approx(0.9 * entropy, rel=1e-5)
    assert validated(epoch).group.shape == (10, 0)
    (epoch,) = Fit(model, data, data.static, replace(EVERYTHING, cycle_ends=(1,)), DELTAS, seed=0)
    assert epoch.snapshot().optimiser.keys() == dict(model.named_parameters()).keys()


def test_the_fast_layout_changes_no_value():
    convolution = nn.Conv2d(3, 5, 3)
    before = convolution.weight.detach().clone()
    to_channels_last(nn.Sequential(convolution, nn.BatchNorm2d(5)))
    assert torch.equal(convolution.weight, before)
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert not convolution.weight.is_contiguous()


def test_kernels_of_one_bin_and_frame_keep_their_values_and_are_left_to_onednn():
    small, large, x = nn.Conv2d(3, 5, 1), nn.Conv2d(3, 5, 3), torch.rand(2, 3, 4, 6)
    with torch.no_grad():
        before = small(x)
        to_channels_last(nn.Sequential(small, large))
        assert torch.allclose(small(x), before, atol=1e-6)
    assert (small.dilation, large.dilation) == ((2, 2), (1, 1))
    fixed = (x, small.weight, small.bias, [1, 1], [0, 0])
    chosen = [torch._C._select_conv_backend(*fixed, way, False, [0, 0], 1) for way in ([1, 1], list(small.dilation))]  # pyright: ignore
    assert [backend.name for backend in chosen] == ["Slow2d", "Mkldnn"]


# the recipe


def test_the_recipes_defaults_are_the_papers():
    recipe = Recipe()
    assert recipe.epochs == 510
    assert (recipe.learning_rate, recipe.final_learning_rate, recipe.optimiser) == (
        0.1,
        1e-5,
        SgdSettings(momentum=0.9),
    )
    assert (recipe.mixup_alpha, recipe.crop_frames, recipe.scene_weight) == (0.4, 400, 0.9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cycle_ends": ()}, "cycle_ends"),
        ({"cycle_ends": (2, 2)}, "cycle_ends"),
        ({"cycle_ends": (6, 2)}, "cycle_ends"),
        ({"cycle_ends": (0, 2)}, "cycle_ends"),
        ({"batch_size": 1}, "batch_size"),
        ({"scene_weight": 1.1}, "scene_weight"),
        ({"soft_weight": -0.1}, "soft_weight"),
        ({"group_soft_weight": 1.1}, "group_soft_weight"),
        ({"mixup_alpha": -0.1}, "mixup_alpha"),
        ({"mel_mask": -1}, "mel_mask"),
        ({"temperature": 0.0}, "temperature"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"crop_frames": 0}, "crop_frames"),
    ],
)
def test_impossible_recipes_are_refused(change: dict[str, Any], message):
    with pytest.raises(ValueError, match=message):
        Recipe(**change)
