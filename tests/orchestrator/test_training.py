"""What surrounds a training: its data, its size rule."""

from dataclasses import replace

import numpy as np
import pytest

from features.taxonomy import TAU_GROUPS, Taxonomy
from models.recipe import Recipe
from models.specs import StudentSpec, TeacherSpec
from orchestrator.data import Split
from orchestrator.errors import UserError
from orchestrator.training import Task, require_size, training_clips


def task(model: StudentSpec | TeacherSpec) -> Task:
    return Task(model, Recipe(), 0, Taxonomy.from_groups(TAU_GROUPS), "scene")


@pytest.mark.parametrize("model", [StudentSpec(), StudentSpec(rows=(32, 36, 43)), TeacherSpec()])
def test_students_within_the_rule_and_all_teachers_may_be_trained(model):
    require_size(task(model))


def test_a_student_beyond_the_rule_is_refused_with_its_size():
    with pytest.raises(
        UserError, match=r"has 2\d\d,\d{3} bytes in fp16; at most 128,000 are allowed: lower student.mod"
    ):
        require_size(task(StudentSpec(rows=(48, 56, 64))))


def split(scenes: list[int], first: int) -> Split:
    count = len(scenes)
    static = np.arange(first, first + count, dtype=np.float16)[:, None, None] * np.ones((1, 2, 3), np.float16)
    return Split(static, np.array(scenes), ("a",) * count, tuple(f"{first}-{row}" for row in range(count)), count)


def test_copies_follow_the_recordings_and_are_used_by_those_who_want_them():
    own, noise, mix = split([0, 4, 9], 0), split([0, 9], 10), split([4], 20)
    data = own.with_copies([noise, mix]).with_soft(np.eye(6, 10, dtype=np.float32), np.eye(6, 3, dtype=np.float32))
    assert data.recordings == 3 and len(data.paths) == len(data.devices) == 6
    everything = training_clips(replace(task(StudentSpec()), copies=True), data)
    assert everything.static[:, 0, 0].tolist() == [0, 1, 2, 10, 11, 20]
    assert everything.scene.argmax(1).tolist() == [0, 4, 9, 0, 9, 4]
    recordings = training_clips(task(StudentSpec()), data)
    assert recordings.static[:, 0, 0].tolist() == [0, 1, 2]
    assert recordings.scene.argmax(1).tolist() == [0, 4, 9]
    assert recordings.soft_scene is not None and recordings.soft_scene.argmax(1).tolist() == [0, 1, 2]
    assert own.with_copies([]) is own
