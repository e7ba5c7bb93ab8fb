"""An epoch's batches. One-hot labels, one class a clip, show which clips went into each row and by how much."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from features.frontend import CONTEXT, with_deltas
from models.batches import Channels, Clips, Targets, batches, target_rows
from models.recipe import Recipe
from models.static import Static

PLAIN = Channels(lambda static: static[:, None], 0)
DELTAS = Channels(with_deltas, CONTEXT)
MEL, FRAMES = 6, 14


def numbered(clips: int, frames: int = FRAMES) -> Clips:
    """Every clip a class of its own, with random features and random teachers; its features are in any row."""
    generator = torch.Generator().manual_seed(clips)
    return Clips(
        static=Static(
            torch.rand(2 * clips + 1, MEL, frames, generator=generator).half(),
            torch.randperm(2 * clips + 1, generator=generator)[:clips],
        ),
        scene=torch.eye(clips),
        group=torch.eye(2)[torch.arange(clips) % 2],
        soft_scene=torch.log_softmax(5 * torch.randn(clips, 5, generator=generator), 1),
        soft_group=torch.log_softmax(5 * torch.randn(clips, 2, generator=generator), 1),
    )


def static_of(data: Clips) -> Tensor:
    """float16 (clip, mel, frame), in the clips' order."""
    return data.static.values[data.static.rows]


def recipe(**changes: float) -> Recipe:
    return replace(Recipe(cycle_ends=(3,), batch_size=4, crop_frames=FRAMES, mixup_alpha=0.0), **changes)  # pyright: ignore[reportArgumentType]


def epoch(clips: Clips, settings: Recipe, channels: Channels = PLAIN, seed: int = 1, number: int = 1):
    return list(batches(clips, settings, channels, seed=seed, epoch=number))


def joined(parts: list[tuple[Tensor, Targets]]) -> tuple[Tensor, Tensor]:
    """Inputs and scene targets of a whole epoch."""
    return torch.cat([x for x, _ in parts]), torch.cat([targets.scene for _, targets in parts])


@settings(deadline=None, max_examples=100)
@given(clips=st.integers(1, 130), batch_size=st.integers(2, 40))
def test_batches_are_even_and_cover_every_clip_once(clips, batch_size):
    data = Clips(Static.of(torch.zeros(clips, 1, 2, dtype=torch.float16)), torch.eye(clips), torch.zeros(clips, 0))
    parts = epoch(data, recipe(batch_size=batch_size, crop_frames=2))
    sizes = [len(x) for x, _ in parts]
    assert len(sizes) == -(-clips // batch_size)
    assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
    _, scene = joined(parts)
    assert scene.argmax(1).sort().values.tolist() == list(range(clips))
    assert scene.max(1).values.tolist() == [1.0] * clips
    assert all(targets.group.shape == (len(x), 0) for x, targets in parts)


def test_without_augmentation_inputs_are_the_labelled_clips():
    data = numbered(11)
    x, scene = joined(epoch(data, recipe()))
    assert torch.equal(x[:, 0], static_of(data).float()[scene.argmax(1)])


def test_crops_are_slices_and_deltas_are_taken_from_their_context():
    data = numbered(40, frames=30)
    x, scene = joined(epoch(data, recipe(crop_frames=12), DELTAS))
    assert x.shape == (40, 3, MEL, 12)
    whole = with_deltas(static_of(data).float())  # 22 frames: a crop may start at 0..10
    starts = []
    for row, clip in zip(x, scene.argmax(1).tolist(), strict=True):
        (start,) = (start for start in range(11) if torch.equal(row, whole[clip, :, :, start : start + 12]))
        starts.append(start)
    assert set(starts) == set(range(11))


def test_with_time_shift_crops_start_anywhere_and_go_round():
    data = numbered(60, frames=14)
    x, scene = joined(epoch(data, recipe(crop_frames=14, time_shift=True)))
    starts = set()
    for row, clip in zip(x[:, 0], scene.argmax(1).tolist(), strict=True):
        (start,) = (start for start in range(14) if torch.equal(row, static_of(data)[clip].float().roll(-start, 1)))
        starts.add(start)
    assert starts == set(range(14))


@pytest.mark.parametrize("channels", [PLAIN, DELTAS], ids=["static", "deltas"])
def test_labels_are_mixed_as_the_inputs_are(channels):
    """The scene targets are the mixing matrix itself: with it, inputs and all other targets can be foretold."""
    data = numbered(10)
    settings = recipe(mixup_alpha=0.4, crop_frames=FRAMES - 2 * channels.context, soft_weight=0.5, temperature=3.0)
    parts = epoch(data, settings, channels)
    x, matrix = joined(parts)
    assert torch.allclose(matrix.sum(1), torch.ones(10))
    assert (matrix > 1e-3).sum(1).max() == 2  # two clips make one
    assert torch.allclose(x, torch.einsum("bc,c...->b...", matrix, channels.expand(static_of(data).float())), atol=1e-5)
    assert torch.allclose(torch.cat([targets.group for _, targets in parts]), matrix @ data.group, atol=1e-6)
    # The teachers' rows are softened first, then mixed.
    assert data.soft_scene is not None and data.soft_group is not None
    for name, scores in (("soft_scene", data.soft_scene), ("soft_group", data.soft_group)):
        soft = torch.cat([getattr(targets, name) for _, targets in parts])
        roots = scores.exp() ** (1 / 3)
        assert torch.allclose(soft, matrix @ (roots / roots.sum(1, keepdim=True)), atol=1e-6)
        assert not torch.allclose(soft, torch.softmax(matrix @ scores / 3, 1), atol=0.01)


def test_the_two_clips_of_a_mix_are_cropped_independently():
    data = numbered(40, frames=30)
    x, matrix = joined(epoch(data, recipe(crop_frames=12, mixup_alpha=5.0), DELTAS))
    cuts = with_deltas(static_of(data).float()).unfold(3, 12, 1)  # (clip, channel, mel, 11 starts, frame)
    starts = set()
    for row, shares in zip(x, matrix, strict=True):
        clips = shares.nonzero()[:, 0]
        if len(clips) < 2:
            continue  # mixed with itself
        one, other = (shares[clip] * cuts[clip].movedim(2, 0) for clip in clips)  # (start, channel, mel, frame)
        gap = (one[:, None] + other[None] - row).abs().amax((2, 3, 4))  # (start of one, start of other)
        assert gap.min() < 1e-5
        starts.add(divmod(int(gap.argmin()), 11))
    assert {one for one, _ in starts} == {other for _, other in starts} == set(range(11))
    assert sum(one == other for one, other in starts) < len(starts) / 3


def test_under_mixup_an_epoch_uses_every_clip_once_for_each_role():
    matrix = joined(epoch(numbered(30), recipe(mixup_alpha=5.0)))[1]
    used = (matrix > 0).sum(0)
    assert set(used.tolist()) <= {1, 2}
    assert torch.allclose(matrix.sum(1), torch.ones(30))
    mixed_with_itself = matrix.max(0).values == 1
    assert torch.equal(used == 1, mixed_with_itself)
    assert mixed_with_itself.sum() < 5


@pytest.mark.parametrize(("setting", "axis", "widest"), [("mel_mask", 2, 3), ("time_mask", 3, 5)])
def test_a_mask_zeroes_one_band_of_all_channels_and_leaves_the_rest(setting, axis, widest):
    data = numbered(60, frames=30)
    settings = recipe(crop_frames=12, mixup_alpha=0.4, batch_size=32)
    without = joined(epoch(data, settings, DELTAS))[0]
    masked = joined(epoch(data, replace(settings, **{setting: widest}), DELTAS))[0]
    others = tuple(dim for dim in (1, 2, 3) if dim != axis)
    zero = (masked == 0).all(dim=others[-1]).all(dim=others[0])  # (clip, bin or frame)
    assert not (without == 0).all(dim=others[-1]).all(dim=others[0]).any()
    assert set(zero.sum(1).tolist()) == set(range(widest + 1))
    edges = torch.nn.functional.pad(zero.int(), (1, 1)).diff(dim=1).abs().sum(1)
    assert (edges <= 2).all()  # one band
    kept = ~zero.view(60, 1, *(-1 if dim == axis else 1 for dim in (2, 3))).expand_as(masked)
    assert torch.equal(masked[kept], without[kept])


def flat(parts: list[tuple[Tensor, Targets]]) -> list[Tensor]:
    return [tensor for x, targets in parts for tensor in (x, targets.scene, targets.group)]


def test_an_epoch_is_decided_by_seed_and_number_alone():
    data = numbered(20, frames=30)
    settings = recipe(mixup_alpha=0.4, crop_frames=12, mel_mask=3, time_mask=5)
    once = flat(epoch(data, settings, DELTAS))
    torch.rand(3)
    assert all(map(torch.equal, once, flat(epoch(data, settings, DELTAS))))
    for other in (epoch(data, settings, DELTAS, number=2), epoch(data, settings, DELTAS, seed=2)):
        assert not torch.equal(once[0], other[0][0]) and not torch.equal(once[1], other[0][1].scene)


def test_the_callers_generator_is_untouched_and_has_no_say():
    data = numbered(20)
    settings = recipe(mixup_alpha=0.4)
    expected = flat(epoch(data, settings))

    def interrupted() -> Iterator[tuple[Tensor, Targets]]:
        for part in batches(data, settings, PLAIN, seed=1, epoch=1):
            torch.rand(7)  # as dropout would
            yield part

    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert all(map(torch.equal, expected, flat(epoch(data, settings))))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, expected, flat(list(interrupted()))))


def test_without_a_soft_weight_there_are_no_soft_targets():
    data = numbered(4)
    rows = target_rows(data, recipe(soft_weight=0.0))
    assert rows.soft_scene is None and rows.soft_group is None
    assert torch.equal(rows.scene, data.scene)
    (_, targets), *_ = epoch(data, recipe())
    assert targets.soft_scene is None and targets.soft_group is None


def test_soft_rows_are_at_the_recipes_temperature():
    scores = torch.log(torch.tensor([[16 / 17, 1 / 17]]))
    data = Clips(Static.of(torch.zeros(1, 1, 2)), torch.eye(1), torch.zeros(1, 0), scores, torch.zeros(1, 0))
    rows = target_rows(data, recipe(soft_weight=0.3, temperature=2.0))
    assert rows.soft_scene is not None and torch.allclose(rows.soft_scene, torch.tensor([[0.8, 0.2]]))
    assert rows.soft_group is not None and rows.soft_group.shape == (1, 0)


def test_distillation_needs_soft_labels():
    hard = replace(numbered(4), soft_scene=None)
    with pytest.raises(AssertionError, match="without soft labels"):
        target_rows(hard, recipe(soft_weight=0.5))


def test_an_online_teacher_labels_the_batch_as_the_student_sees_it():
    data, seen = replace(numbered(20), soft_scene=None, soft_group=None), []

    def teacher(x: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(x)
        return x.mean((1, 3)), x.mean((1, 3))[:, :2]

    settings = recipe(mixup_alpha=0.4, crop_frames=8, mel_mask=2, soft_weight=0.5, temperature=3.0)
    plain = epoch(data, replace(settings, soft_weight=0.0))
    parts = list(batches(data, settings, PLAIN, seed=1, epoch=1, teacher=teacher))
    assert len(parts) == len(plain) == len(seen)
    for (x, targets), (same, hard), asked in zip(parts, plain, seen, strict=True):
        assert torch.equal(x, same) and asked is x
        assert torch.equal(targets.scene, hard.scene) and torch.equal(targets.group, hard.group)
        assert targets.soft_scene is not None and targets.soft_group is not None
        scores = x.mean((1, 3)) / 3
        torch.testing.assert_close(targets.soft_scene, scores.exp() / scores.exp().sum(1, keepdim=True))
        torch.testing.assert_close(targets.soft_group, scores[:, :2].softmax(1))


def test_stored_labels_equal_online_ones_where_nothing_is_augmented():
    data = numbered(13)
    settings = recipe(soft_weight=0.5, temperature=2.0)

    def teacher(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean((1, 2)), x.mean((1, 3))

    scene, group = teacher(static_of(data).float()[:, None])
    stored = epoch(replace(data, soft_scene=scene, soft_group=group), settings)
    online = list(batches(data, settings, PLAIN, seed=1, epoch=1, teacher=teacher))
    for (_, ours), (_, theirs) in zip(stored, online, strict=True):
        for name in ("scene", "group", "soft_scene", "soft_group"):
            torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("time_shift", "mixup"), [(False, 0.0), (True, 0.4)])
def test_clips_that_a_device_has_no_room_for_give_the_same_batches(monkeypatch, time_shift, mixup):
    wanted = recipe(crop_frames=8, mixup_alpha=mixup, mel_mask=3, time_shift=time_shift, soft_weight=0.5)
    expected = epoch(numbered(11), wanted)
    asked: list[torch.device] = []

    def is_on(_clips: Static, device: torch.device) -> bool:
        asked.append(device)
        return False

    monkeypatch.setattr(Static, "is_on", is_on)
    found = epoch(numbered(11), wanted)
    assert asked == [torch.device("cpu")] and len(found) == len(expected) == 3
    for (x, targets), (other, others) in zip(found, expected, strict=True):
        assert torch.equal(x, other) and x.dtype == torch.float32
        assert torch.equal(targets.scene, others.scene)
        assert targets.soft_scene is not None and others.soft_scene is not None
        assert torch.equal(targets.soft_scene, others.soft_scene)


def test_clips_are_cut_where_they_lie_and_the_batch_is_where_its_labels_are():
    data = numbered(7)
    labels = replace(data.to(torch.device("meta")), static=data.static)
    parts = epoch(labels, recipe(crop_frames=8, mixup_alpha=0.4))
    assert [(x.shape, x.device.type) for x, _ in parts] == [((4, 1, MEL, 8), "meta"), ((3, 1, MEL, 8), "meta")]
    assert [targets.scene.device.type for _, targets in parts] == ["meta", "meta"]


def test_a_crop_longer_than_the_clips_is_refused():
    data = numbered(4)
    epoch(data, recipe(crop_frames=FRAMES - 2 * CONTEXT), DELTAS)
    with pytest.raises(AssertionError, match="crop of 15 frames from clips of 14"):
        epoch(data, recipe(crop_frames=FRAMES - 2 * CONTEXT + 1), DELTAS)


def test_clips_keep_their_parts_on_the_way_to_a_device():
    data = numbered(5)
    moved = data.to(torch.device("cpu"))
    assert len(moved) == 5
    assert torch.equal(static_of(moved), static_of(data))
    for name in ("scene", "group", "soft_scene", "soft_group"):
        assert torch.equal(getattr(moved, name), getattr(data, name))
    hard = replace(data, soft_scene=None, soft_group=None).to(torch.device("cpu"))
    assert hard.soft_scene is None and hard.soft_group is None
