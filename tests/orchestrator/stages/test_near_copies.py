"""What is said of near copies."""

from features.fingerprint import NearCopy
from orchestrator.stages.near_copies import warn_of


def test_near_copies_are_counted_and_the_first_is_named():
    pairs, said = [NearCopy(name, "train", "z.wav", "test", 0.0) for name in ("a.wav", "b.wav")], list[str]()
    for found in (pairs, pairs[1:], []):
        warn_of(found, said.append)
    assert said == [
        f"near copies: {count} of recordings in two splits sound the same, as {name} (train) and z.wav (test); "
        f"unless chance, the numbers flatter"
        for count, name in (("2 pairs", "a.wav"), ("1 pair", "b.wav"))
    ]
