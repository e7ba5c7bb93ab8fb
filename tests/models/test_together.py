"""Trainings as one learn what each learns alone."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from features.frontend import CONTEXT, with_deltas
from models.batches import Channels, Clips
from models.fit import Diverged, Epoch, Fit, Snapshot, alone
from models.heads import Logits
from models.mobnet import Mobnet, MobnetSpec
from models.recipe import MixStyleSettings, Recipe
from models.seeding import seeded
from models.specs import TwoPathSpec
from models.together import Dropouts, NotAlike, Together
from models.two_path import TwoPath
from tests.models.toys import DELTAS, SPEC, clips

SHAPE = {"channels": 3, "scenes": 3, "groups": 2}
COMMON = Recipe(cycle_ends=(1, 2, 4), batch_size=4, crop_frames=12, soft_weight=0.5, moving_average=0.8)
RECIPES = [  # everything in which trials of a search may differ
    replace(COMMON, mel_mask=3, time_mask=3),
    replace(COMMON, learning_rate=0.03, mixup_alpha=0.0),
    replace(COMMON, soft_weight=0.0, temperature=1.0, moving_average=0.0, time_shift=True),
    replace(COMMON, cycle_ends=(2, 4), scene_weight=0.6, augment={"mixstyle": MixStyleSettings()}),
]
CLOSE = 1e-5


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def student(seed: int, spec: MobnetSpec = SPEC, groups: int = 2) -> Mobnet:
    with seeded("test", seed):
        return Mobnet(spec, channels=3, scenes=3, groups=groups)


def training(seed: int, recipe: Recipe = COMMON, resume: Snapshot | None = None, model: nn.Module | None = None) -> Fit:
    return Fit(model or student(seed), clips(), clips(7, seed=1).static, recipe, DELTAS, seed=seed, resume=resume)


def trainings() -> list[Fit]:
    return [training(seed, recipe) for seed, recipe in enumerate(RECIPES)]


def two_epochs(one: Fit) -> list[tuple[Epoch, Snapshot]]:
    """Alone."""
    first = alone(one)
    before = first.snapshot()
    second = alone(one)
    return [(first, before), (second, second.snapshot())]


@cache
def apart() -> list[list[tuple[Epoch, Snapshot]]]:
    """Two epochs of each, alone."""
    return [two_epochs(one) for one in trainings()]


def is_same(found: Epoch | Diverged, expected: Epoch) -> bool:
    """Whether an epoch is that one, but for rounding."""
    assert isinstance(found, Epoch) and found.validation is not None and expected.validation is not None
    ours, theirs = ((one.number, one.learning_rate, one.cycle_end) for one in (found, expected))
    scene = (found.validation.scene - expected.validation.scene).abs().max().item()
    group = (found.validation.group - expected.validation.group).abs().max().item()
    return ours == theirs and max(abs(found.loss - expected.loss), scene, group) <= CLOSE


def largest_difference(found: Snapshot, expected: Snapshot) -> float:
    """Of weights, statistics, counters, momenta and averages."""
    differences = []
    for ours, theirs in (
        (found.model, expected.model),
        (found.optimiser, expected.optimiser),
        (found.moving, expected.moving),
    ):
        assert ours.keys() == theirs.keys()
        differences += [(ours[name] - theirs[name]).abs().max().item() for name in ours]
    return max(differences)


def test_four_trainings_as_one_are_each_what_it_is_alone_for_two_epochs():
    together = Together(trainings())
    for number in range(2):
        for found, (expected, _) in zip(together.epoch(), [one[number] for one in apart()], strict=True):
            assert is_same(found, expected)


def test_in_double_precision_every_weight_statistic_and_momentum_is_the_same():
    def made(seed: int, recipe: Recipe) -> Fit:
        data = clips()
        assert data.soft_scene is not None and data.soft_group is not None
        data = Clips(
            data.static, data.scene.double(), data.group.double(), data.soft_scene.double(), data.soft_group.double()
        )
        channels = Channels(lambda static: with_deltas(static).double(), CONTEXT)
        return Fit(student(seed).double(), data, clips(7, seed=1).static, recipe, channels, seed=seed)

    together = Together([made(seed, recipe) for seed, recipe in enumerate(RECIPES)])
    expected = [two_epochs(made(seed, recipe)) for seed, recipe in enumerate(RECIPES)]
    for number in range(2):
        for found, states in zip(together.epoch(), expected, strict=True):
            assert isinstance(found, Epoch)
            assert largest_difference(found.snapshot(), states[number][1]) <= 1e-10


def test_they_are_resumed_in_other_company():
    first = Together(trainings())
    snapshots = [epoch.snapshot() for epoch in first.epoch() if isinstance(epoch, Epoch)]
    resumed = [training(seed, recipe, snapshots[seed]) for seed, recipe in enumerate(RECIPES)]
    pair, (third, fourth) = Together(resumed[:2]), resumed[2:]
    found = [*pair.epoch(), alone(third), *Together([training(9), fourth]).epoch()[1:]]
    for epoch, expected in zip(found, apart(), strict=True):
        assert is_same(epoch, expected[1][0])


def test_the_place_of_one_that_ends_is_taken_by_another_at_its_first_epoch():
    first, second, third, *_ = trainings()
    Together([first, second]).epoch()
    found = Together([third, second]).epoch()
    assert is_same(found[0], apart()[2][0][0]) and is_same(found[1], apart()[1][1][0])
    assert is_same(alone(first), apart()[0][1][0])  # it goes on as if it had never been in company


def test_a_rehearsal_changes_nothing_and_a_student_that_is_broken_does_not_fail_it():
    broken, other = training(0), training(1, RECIPES[1])
    with torch.no_grad():
        next(iter(broken.parameters.values())).fill_(torch.nan)
    together = Together([broken, other])
    together.rehearse()
    assert all(one.grad is None for one in other.parameters.values())
    assert is_same(together.epoch()[1], apart()[1][0][0])


def test_one_that_diverges_harms_no_other():
    wild = training(5, replace(COMMON, learning_rate=1e30))
    found = Together([training(0, RECIPES[0]), wild, training(1, RECIPES[1])]).epoch()
    assert isinstance(found[1], Diverged) and "lower learning_rate" in str(found[1])
    assert is_same(found[0], apart()[0][0][0]) and is_same(found[2], apart()[1][0][0])


@pytest.mark.parametrize(
    ("spec", "groups"),
    [(replace(SPEC, branches=2), 2), (replace(SPEC, pooling="mean_max", residual_norm=0.5), 2), (SPEC, 0)],
)
def test_every_form_of_the_student(spec, groups):
    def made(seed: int) -> Fit:
        data = replace(clips(), group=clips().group[:, :groups], soft_group=torch.zeros(10, groups))
        return Fit(student(seed, spec, groups), data, clips(7, seed=1).static, COMMON, DELTAS, seed=seed)

    found = Together([made(0), made(1)]).epoch()
    for seed in (0, 1):
        one = made(seed)
        expected = alone(one)
        assert isinstance(epoch := found[seed], Epoch) and abs(epoch.loss - expected.loss) <= CLOSE
        assert epoch.validation is not None and expected.validation is not None
        assert torch.allclose(epoch.validation.scene, expected.validation.scene, atol=CLOSE)


def test_each_has_its_own_labels_of_a_teacher_that_labels_batches():
    def teacher(x: Tensor) -> Logits:
        level = x.mean((1, 2, 3))
        return torch.stack([level, -level, 0 * level], 1), torch.stack([level, -level], 1)

    def made(seed: int) -> Fit:
        return Fit(student(seed), clips(), clips(7, seed=1).static, COMMON, DELTAS, seed=seed, teacher=teacher)

    found, expected = Together([made(0), made(1)]).epoch(), [alone(made(0)), alone(made(1))]
    for ours, theirs in zip(found, expected, strict=True):
        assert isinstance(ours, Epoch) and abs(ours.loss - theirs.loss) <= CLOSE


def test_dropout_draws_what_torch_draws():
    dropouts = Dropouts(0.3, 2)
    x = torch.rand(4, 6, 5, 7).contiguous(memory_format=torch.channels_last)
    dropouts.generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    expected = []
    for seed, part in zip((1, 2), x.chunk(2, 1), strict=True):
        torch.manual_seed(seed)
        expected.append(F.dropout(part.contiguous(memory_format=torch.channels_last), 0.3, training=True))
    assert torch.equal(dropouts(x), torch.cat(expected, 1))
    assert torch.equal(dropouts.eval()(x), x)


def two_path(seed: int) -> TwoPath:
    spec = TwoPathSpec(width=4, stacks=2, blocks_per_stack=1)
    with seeded("test", seed):
        return TwoPath(spec, **SHAPE)


class Crossed(Mobnet):
    """A family in which every channel depends on all others."""

    def __init__(self, seed: int) -> None:
        with seeded("test", seed):
            super().__init__(SPEC, **SHAPE)

    def forward(self, x: Tensor) -> Logits:
        return super().forward(x - x.mean(1, keepdim=True))


class Biased(Crossed):
    """A family with a value of its own, in no convolution."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Logits:
        return super().forward(self.scale * x)


class Dropped(Crossed):
    """A family that drops whole channels."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.drop = nn.Dropout2d(0.1)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([two_path(0), two_path(1)], "cannot be computed beside others"),  # it adds channels after the last
        ([Crossed(0), Crossed(1)], "predicts otherwise beside others"),
        ([student(0), student(1, replace(SPEC, blocks_per_row=1))], "several architectures"),
        ([Biased(0), Biased(1)], "Biased cannot be computed for several models"),
        ([Dropped(0), Dropped(1)], "Dropout2d cannot be computed for several models"),
    ],
    ids=["counts channels", "over channels", "unlike", "values", "draws"],
)
def test_models_that_cannot_be_side_by_side_are_refused(models, message):
    with pytest.raises(NotAlike, match=message):
        Together([training(seed, model=model) for seed, model in enumerate(models)]).rehearse()


def test_a_refusal_leaves_the_trainings_as_they_were():
    found = [training(seed, model=two_path(seed)) for seed in (0, 1)]
    with pytest.raises(NotAlike):
        Together(found).rehearse()
    for seed, one in enumerate(found):
        expected = alone(training(seed, model=two_path(seed)))
        assert alone(one).loss == expected.loss
