"""A record of a numbered form is read as it was written, or refused in one line."""

import json
from typing import ClassVar

import pytest
from pydantic import Field

from orchestrator.errors import UserError
from orchestrator.storage.record import Record


class Note(Record):
    oldest: ClassVar[int] = 2
    newest: ClassVar[int] = 3

    text: str = Field(description="words")
    rows: tuple[tuple[int, ...], ...] = Field(default=(), description="numbers")


def test_it_is_written_with_its_number_and_read_again(tmp_path):
    value = {"schema": 3, "text": "hello", "rows": [[1, 2], []]}
    note = Note.model_validate(value)
    note.write(tmp_path / "note.json")
    assert json.loads((tmp_path / "note.json").read_text()) == value == note.as_json()
    assert Note.read(tmp_path / "note.json") == note == Note.of(value, tmp_path)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"schema": 4, "text": ""}, "has schema 4, of a newer Stillhouse; this one reads up to 3: update Stillhouse"),
        ({"schema": 1, "text": ""}, "has schema 1, of an older Stillhouse; this one reads from 2"),
        ({"text": ""}, "is damaged .it has no schema number"),
        ({"schema": "3", "text": ""}, "is damaged .it has no schema number"),
        ([], "is damaged .it has no schema number"),
        ({"schema": 2, "text": 5}, "is not as this Stillhouse writes it .text: Input should be a valid string"),
        ({"schema": 2, "text": "", "more": 1}, "is not as this Stillhouse writes it .more: "),
        ({"schema": 2, "text": "", "rows": [["x"]]}, r"is not as this Stillhouse writes it .rows\.0\.0: "),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, value, reason):
    (tmp_path / "note.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=f"^{tmp_path / 'note.json'} {reason}") as error:
        Note.read(tmp_path / "note.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", [2, 3])
def test_every_form_in_between_is_read(number, tmp_path):
    assert Note.of({"schema": number, "text": "x"}, tmp_path).number == number
