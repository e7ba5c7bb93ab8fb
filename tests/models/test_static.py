"""Where clips lie: on a device that has room for them, else where they are."""

import math

import pytest
import torch

from models import static
from models.static import Static, room_on

META = torch.device("meta")  # another device, on which nothing has values
CLIPS, MEL, FRAMES = 3, 4, 5
BYTES = 2 * CLIPS * MEL * FRAMES


@pytest.fixture
def clips() -> Static:
    values = torch.arange(8 * MEL * FRAMES).view(8, MEL, FRAMES).half()
    return Static(values, torch.tensor([6, 0, 2]))


@pytest.mark.parametrize(("room", "moves"), [(BYTES - 1, False), (BYTES, True)])
def test_clips_move_to_a_device_that_has_room_for_them_and_for_no_other_rows(clips, monkeypatch, room, moves):
    monkeypatch.setattr(static, "room_on", {META: room}.get)
    moved = clips.to(META)
    assert (moved is clips, moved.is_on(META)) == (not moves, moves)
    assert moved.shape == clips.shape == (CLIPS, MEL, FRAMES)
    assert len(moved.values) == (CLIPS if moves else 8)


def test_clips_that_are_there_stay_whatever_the_room(clips, monkeypatch):
    monkeypatch.setattr(static, "room_on", lambda device: 0)
    assert clips.to(torch.device("cpu")) is clips


def test_clips_may_take_half_of_a_gpus_free_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", {torch.device("cuda", 1): (1000, 4000)}.get)
    assert (room_on(torch.device("cuda", 1)), room_on(torch.device("cpu"))) == (500, math.inf)
