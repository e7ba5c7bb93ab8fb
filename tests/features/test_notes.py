"""What is said of many recordings is said once, with how many and which."""

from features.notes import by_note, in_short


def test_the_most_frequent_note_comes_first():
    assert by_note({"a": "cut", "b": "mixed", "c": "mixed"}) == [("mixed", ["b", "c"]), ("cut", ["a"])]


def test_a_line_names_the_first_recordings_and_counts_the_others():
    notes = {f"{number}.wav": "resampled from 48000 Hz" for number in range(1003)}
    assert in_short({"a.wav": "mixed down from 2 channels"}) == ["1 recording: mixed down from 2 channels: a.wav"]
    assert in_short(notes) == ["1,003 recordings: resampled from 48000 Hz: 0.wav, 1.wav, 2.wav and 1,000 more"]
    assert in_short(dict(list(notes.items())[:3])) == ["3 recordings: resampled from 48000 Hz: 0.wav, 1.wav, 2.wav"]
