"""What surrounds a training: its size rule."""

import pytest

from features.taxonomy import TAU_GROUPS, Taxonomy
from models.recipe import Recipe
from models.specs import StudentSpec, TeacherSpec
from orchestrator.errors import UserError
from orchestrator.training import Task, require_size


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
