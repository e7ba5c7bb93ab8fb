"""Scenes, groups and their order, which is the order of the classes in every model."""

from itertools import permutations

import pytest

from features.taxonomy import TAU_GROUPS, Taxonomy


def test_tau_is_ten_scenes_in_three_groups():
    tau = Taxonomy.from_groups(TAU_GROUPS)
    # The columns of a DCASE submission, in the order that its validator wants.
    assert tau.scenes == (
        "airport", "bus", "metro", "metro_station", "park",
        "public_square", "shopping_mall", "street_pedestrian", "street_traffic", "tram",
    )  # fmt: skip
    assert tau.groups == ("indoor", "outdoor", "transportation")
    assert tau.group_of_scene == (0, 2, 2, 0, 1, 1, 0, 1, 1, 2)


def test_order_is_alphabetical_whatever_order_was_given():
    expected = Taxonomy(("bar", "beach", "forest", "train"), ("in", "on", "out"), (0, 2, 2, 1))
    for groups in permutations([("out", ("forest", "beach")), ("in", ("bar",)), ("on", ["train"])]):
        assert Taxonomy.from_groups(dict(groups)) == expected


def test_index_is_the_position_among_the_scenes():
    tau = Taxonomy.from_groups(TAU_GROUPS)
    assert [tau.index(scene) for scene in tau.scenes] == list(range(10))
    assert tau.index("metro_station") == 3


def test_a_scene_in_two_groups_names_all_three():
    with pytest.raises(ValueError, match=r"^taxonomy: scene 'tram' is in both 'rail' and 'road'$"):
        Taxonomy.from_groups({"rail": ["tram", "metro"], "road": ["bus", "tram"]})


@pytest.mark.parametrize("groups", [{}, {"indoor": []}, {"indoor": ["airport"]}])
def test_fewer_than_two_scenes_are_no_classification(groups):
    with pytest.raises(ValueError, match=r"^taxonomy: at least two scenes are needed$"):
        Taxonomy.from_groups(groups)
