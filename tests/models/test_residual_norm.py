"""Residual normalisation at the input of both models, by hand and by what a device does to a clip."""

import torch

from models.blocks import ResidualNorm
from models.mobnet import Mobnet
from models.specs import MobnetSpec, TwoPathSpec
from models.two_path import TwoPath

SHAPE = {"channels": 3, "scenes": 4, "groups": 2}


def test_by_hand():
    x = torch.tensor([[[[1.0, 3.0], [5.0, 5.0]]]])  # (1, 1, 2 bins, 2 frames)
    expected = torch.tensor([[[[0.1 - 1, 0.3 + 1], [0.5, 0.5]]]])  # mean 2, deviation 1; a constant bin is at rest
    torch.testing.assert_close(ResidualNorm(0.1)(x), expected, atol=1e-4, rtol=0)


def test_without_the_residual_a_device_s_gain_and_offset_are_gone():
    x = torch.rand(2, 3, 8, 40)
    gain, offset = 0.5 + torch.rand(1, 3, 8, 1), torch.rand(1, 3, 8, 1)
    norm = ResidualNorm(0.0)
    torch.testing.assert_close(norm(gain * x + offset), norm(x), atol=2e-3, rtol=0)
    assert not torch.allclose(ResidualNorm(1.0)(x + offset), ResidualNorm(1.0)(x), atol=1e-2)


def test_it_has_no_parameters_and_is_off_by_default():
    assert MobnetSpec().residual_norm is None and TwoPathSpec().residual_norm is None
    students = [Mobnet(MobnetSpec(residual_norm=weight), **SHAPE) for weight in (None, 0.1)]
    teachers = [TwoPath(TwoPathSpec(width=2, residual_norm=weight), **SHAPE) for weight in (None, 0.1)]
    for models in (students, teachers):
        counts = {sum(parameter.numel() for parameter in model.parameters()) for model in models}
        assert len(counts) == 1


def test_a_student_with_it_does_not_hear_a_device_s_offset():
    torch.manual_seed(0)
    student = Mobnet(MobnetSpec(stem=4, rows=(4, 6), blocks_per_row=2, tail=6, shared=5, residual_norm=0.0), **SHAPE)
    student.eval()
    x = torch.rand(2, 3, 16, 40)
    offset = 0.3 * torch.rand(1, 3, 16, 1)
    torch.testing.assert_close(student(x + offset), student(x), atol=1e-4, rtol=1e-3)
