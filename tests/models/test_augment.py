"""Crop, mixup and masks, on values that show where each came from."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from features.frontend import CONTEXT, with_deltas
from models.augment import Draws, MixStyle, crop, crop_circular, draw_epoch, mask, mix, mixstyle
from models.recipe import MixStyleSettings

SETTINGS: dict[str, Any] = {
    "spare_frames": 23,
    "mixup_alpha": 0.4,
    "mel_bins": 128,
    "crop_frames": 400,
    "mel_mask": 12,
    "time_mask": 39,
}


def draws(clips: int = 64, seed: int = 0, **changes: float) -> Draws:
    torch.manual_seed(seed)
    return draw_epoch(clips, **{**SETTINGS, **changes})


def differing(one: Draws, other: Draws) -> set[str]:
    return {
        field.name for field in fields(Draws) if not torch.equal(getattr(one, field.name), getattr(other, field.name))
    }


def stored_clips(clips: int, mel: int, frames: int) -> torch.Tensor:
    """Features as shards hold them: float16 in [0, 1]."""
    return torch.rand(clips, mel, frames, generator=torch.Generator().manual_seed(clips)).half()


# mixup


def test_mix_by_hand():
    first, second = torch.tensor([[4.0, 0.0], [4.0, 0.0]]), torch.tensor([[8.0, 1.0], [8.0, 1.0]])
    assert mix(first, second, torch.tensor([0.25, 0.75])).tolist() == [[7.0, 0.75], [5.0, 0.25]]


def test_share_one_is_the_first_clip_and_share_zero_the_second():
    values = torch.randint(0, 2049, (2, 8, 4, 5)).float() / 2048  # what fp16 can hold between 1/2 and 1, and zero
    first, second = values
    assert torch.equal(mix(first, second, torch.ones(8)), first)
    assert torch.equal(mix(first, second, torch.zeros(8)), second)


@settings(deadline=None, max_examples=50)
@given(share=st.floats(0, 1, width=32), seed=st.integers(0, 1000))
def test_a_mix_lies_between_its_clips(share, seed):
    first, second = torch.rand(2, 1, 40, generator=torch.Generator().manual_seed(seed))
    mixed = mix(first, second, torch.tensor([share]))
    assert (mixed >= torch.minimum(first, second) - 1e-7).all()
    assert (mixed <= torch.maximum(first, second) + 1e-7).all()
    assert torch.allclose(mixed, mix(second, first, torch.tensor([1 - share], dtype=torch.float64)).float(), atol=1e-6)


def test_mixing_before_deltas_equals_mixing_after():
    first, second = torch.rand(2, 6, 16, 40)
    share = torch.rand(6)
    assert torch.allclose(
        with_deltas(mix(first, second, share)), mix(with_deltas(first), with_deltas(second), share), atol=1e-6
    )


# crop


@settings(deadline=None, max_examples=50)
@given(data=st.data(), frames=st.integers(1, 20))
def test_crops_are_slices_of_the_chosen_clips(data, frames):
    clips = stored_clips(7, 3, 20)
    rows = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=10))
    starts = data.draw(st.lists(st.integers(0, 20 - frames), min_size=len(rows), max_size=len(rows)))
    cut = crop(clips, torch.tensor(rows), torch.tensor(starts), frames)
    assert cut.dtype == torch.float16
    expected = torch.stack([clips[row, :, start : start + frames] for row, start in zip(rows, starts, strict=True)])
    assert torch.equal(cut, expected)


@settings(deadline=None, max_examples=50)
@given(data=st.data(), frames=st.integers(1, 20))
def test_circular_crops_are_slices_of_the_rolled_clips(data, frames):
    clips = stored_clips(7, 3, 20)
    rows = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=10))
    starts = data.draw(st.lists(st.integers(0, 19), min_size=len(rows), max_size=len(rows)))
    cut = crop_circular(clips, torch.tensor(rows), torch.tensor(starts), frames)
    assert cut.dtype == torch.float16
    rolled = [np.roll(clips[row].numpy(), -start, axis=1) for row, start in zip(rows, starts, strict=True)]
    np.testing.assert_array_equal(cut.numpy(), np.stack(rolled)[:, :, :frames])


def test_deltas_of_a_crop_with_context_are_those_of_the_whole_clip():
    clips = stored_clips(3, 4, 40)
    starts = torch.tensor([0, 7, 12])
    cut = with_deltas(crop(clips, torch.arange(3), starts, 20 + 2 * CONTEXT).float())
    whole = with_deltas(clips.float())
    expected = torch.stack([whole[row, :, :, start : start + 20] for row, start in enumerate(starts.tolist())])
    assert torch.equal(cut, expected)


# masks


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_masks_zero_exactly_the_stated_band(data):
    mel_bins, frames = 9, 12

    def span(extent: int) -> tuple[int, int]:
        width = data.draw(st.integers(0, extent))
        return data.draw(st.integers(0, extent - width)), width

    mel, time = [span(mel_bins) for _ in range(2)], [span(frames) for _ in range(2)]
    x = torch.rand(2, 3, mel_bins, frames) + 0.5
    masked = mask(x, torch.tensor(mel), torch.tensor(time))
    expected = x.clone()
    for clip in range(2):
        (first_bin, bins), (first_frame, length) = mel[clip], time[clip]
        expected[clip, :, first_bin : first_bin + bins] = 0
        expected[clip, :, :, first_frame : first_frame + length] = 0
    assert torch.equal(masked, expected)


# draws


def test_every_clip_comes_first_once_and_second_once():
    drawn = draws(50)
    assert drawn.first.sort().values.tolist() == list(range(50))
    assert drawn.second.sort().values.tolist() == list(range(50))
    assert not torch.equal(drawn.first, drawn.second)
    assert not torch.equal(drawn.first_start, drawn.second_start)


def test_draws_follow_their_distributions():
    drawn = draws(40_000)
    # Crop offsets: uniform over 0..23, both ends included.
    for starts in (drawn.first_start, drawn.second_start):
        counts = torch.bincount(starts, minlength=24)
        assert len(counts) == 24
        assert (counts - 40_000 / 24).abs().max() < 5 * (40_000 / 24) ** 0.5
    # Mask widths: uniform over 0..12 bins and 0..39 frames; never beyond the edge, but up to it.
    for span, widest, extent in ((drawn.mel_mask, 12, 128), (drawn.time_mask, 39, 400)):
        start, width = span.T
        counts = torch.bincount(width, minlength=widest + 1)
        assert len(counts) == widest + 1
        assert (counts - 40_000 / (widest + 1)).abs().max() < 5 * (40_000 / (widest + 1)) ** 0.5
        assert start.min() == 0 and (start + width).max() == extent
        assert start.double().mean().item() == pytest.approx((extent - widest / 2) / 2, rel=0.02)
    # Beta(0.4, 0.4): mean 1/2, variance 1 / (4 (2 * 0.4 + 1)).
    share = drawn.share.double()
    assert share.min() >= 0 and share.max() <= 1
    assert share.mean().item() == pytest.approx(0.5, abs=0.01)
    assert share.var().item() == pytest.approx(1 / 7.2, rel=0.02)


@pytest.mark.parametrize(
    ("change", "affected"),
    [
        ({"mixup_alpha": 0}, {"share"}),
        ({"mixup_alpha": 0.2}, {"share"}),
        ({"mel_mask": 0}, {"mel_mask"}),
        ({"time_mask": 0}, {"time_mask"}),
        ({"spare_frames": 0}, {"first_start", "second_start"}),
    ],
)
def test_switching_one_thing_off_leaves_the_other_draws(change, affected):
    assert differing(draws(), draws(**change)) == affected


def test_what_is_off_does_nothing():
    drawn = draws(mixup_alpha=0, mel_mask=0, time_mask=0, spare_frames=0)
    assert torch.equal(drawn.share, torch.ones(64))
    assert not drawn.mel_mask[:, 1].any() and not drawn.time_mask[:, 1].any()
    assert not drawn.first_start.any() and not drawn.second_start.any()


def test_masks_wider_than_the_map_stay_within_it():
    drawn = draws(2000, mel_bins=5, mel_mask=12)
    start, width = drawn.mel_mask.T
    assert width.max() == 5 and (start + width).max() == 5 and start.min() == 0


def test_the_seed_decides():
    assert differing(draws(), draws()) == set()
    first, other = (draws(seed=seed) for seed in (0, 1))
    assert differing(first, other) == {field.name for field in fields(Draws)}


def test_a_batch_is_a_slice_of_every_part():
    drawn = draws(10)
    part = drawn.batch(slice(3, 7))
    assert part.first.tolist() == drawn.first.tolist()[3:7]
    assert part.time_mask.tolist() == drawn.time_mask.tolist()[3:7]
    assert {len(getattr(part, field.name)) for field in fields(Draws)} == {4}
    assert differing(drawn, drawn.to(torch.device("cpu"))) == set()
    assert differing(drawn, replace(drawn, share=drawn.share / 2)) == {"share"}


# MixStyle


def test_a_share_of_one_leaves_every_clip_as_it_is():
    static = torch.rand(4, 6, 20)
    torch.testing.assert_close(mixstyle(static, torch.ones(4)), static)


def test_a_share_of_zero_gives_each_bin_the_next_clip_s_mean_and_deviation():
    static = torch.rand(3, 5, 50) * (0.5 + torch.rand(3, 5, 1)) + torch.rand(3, 5, 1)
    styled = mixstyle(static, torch.zeros(3))
    for clip in range(3):
        other = static[(clip + 1) % 3]
        torch.testing.assert_close(styled[clip].mean(1), other.mean(1))
        # The floor of 1e-3 on both deviations.
        torch.testing.assert_close(styled[clip].std(1), other.std(1), atol=2e-3, rtol=1e-2)
        whitened = (static[clip] - static[clip].mean(1, keepdim=True)) / static[clip].std(1, keepdim=True)
        again = (styled[clip] - styled[clip].mean(1, keepdim=True)) / styled[clip].std(1, keepdim=True)
        torch.testing.assert_close(again, whitened)  # what is heard stays


def test_half_of_a_device_s_response_is_taken_over():
    """By hand: the same sound through two devices, one of them 0.4 louder in its second bin."""
    sound = torch.rand(1, 2, 30)
    pair = torch.cat([sound, sound + torch.tensor([0.0, 0.4])[None, :, None]])
    styled = mixstyle(pair, torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(styled[0, 0], pair[0, 0])
    torch.testing.assert_close(styled[0, 1], pair[0, 1] + 0.2)
    torch.testing.assert_close(styled[1], pair[1])


def test_silence_keeps_its_calm():
    styled = mixstyle(torch.stack([torch.zeros(4, 9), torch.rand(4, 9)]), torch.tensor([0.3, 0.6]))
    assert styled.isfinite().all() and styled[0].std(1).max() == 0


def test_so_many_clips_get_another_style():
    torch.manual_seed(0)
    drawn = MixStyle(MixStyleSettings(probability=0.3)).draw(40_000)
    changed = drawn < 1
    assert changed.double().mean().item() == pytest.approx(0.3, abs=0.01)
    assert drawn[changed].double().var().item() == pytest.approx(1 / 7.2, rel=0.05)
    assert torch.equal(MixStyle(MixStyleSettings(probability=0.0)).draw(64), torch.ones(64))
