"""What is said of many recordings, gathered by what is said."""

from collections.abc import Mapping


def by_note(notes: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Each note, by path, and the paths that it is said of: the most frequent first."""
    paths: dict[str, list[str]] = {}
    for path, note in notes.items():
        paths.setdefault(note, []).append(path)
    return sorted(paths.items(), key=lambda item: (-len(item[1]), item[0]))


def in_short(notes: Mapping[str, str], named: int = 3) -> list[str]:
    """Such as "12 recordings: resampled from 48,000 Hz: a.wav, b.wav, c.wav and 9 more", a line for each note."""
    lines = []
    for note, paths in by_note(notes):
        count = "1 recording" if len(paths) == 1 else f"{len(paths):,} recordings"
        more = f" and {len(paths) - named:,} more" if len(paths) > named else ""
        lines.append(f"{count}: {note}: {', '.join(paths[:named])}{more}")
    return lines
