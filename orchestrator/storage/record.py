"""Files of a run whose form has a number, `schema`: typed, and checked when they are read."""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, ValidationError

from orchestrator.config.reading import Strict
from orchestrator.errors import UserError
from orchestrator.storage.files import read_json, write_json


class Record(Strict):
    """A JSON file. A subclass has `newest`, the form that it writes, and `oldest`, the first that it can still read."""

    oldest: ClassVar[int]
    newest: ClassVar[int]

    number: int = Field(alias="schema", description="number of this file's form")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises UserError where the file is damaged, or of another version of Stillhouse than this one reads."""
        return cls.of(read_json(path), path)

    @classmethod
    def of(cls, value: object, path: Path) -> Self:
        """The record that `path` holds, from its JSON values. Raises UserError as `read` does."""
        number = value.get("schema") if isinstance(value, dict) else None
        if not isinstance(number, int):
            raise UserError(
                f"{path} is damaged (it has no schema number); give the same `stillhouse run` again to write it anew"
            )
        if number > cls.newest:
            raise UserError(
                f"{path} has schema {number}, of a newer Stillhouse; this one reads up to {cls.newest}: "
                f"update Stillhouse"
            )
        if number < cls.oldest:
            raise UserError(
                f"{path} has schema {number}, of an older Stillhouse; this one reads from {cls.oldest}: give the same "
                f"`stillhouse run` again, which writes it anew, or use the Stillhouse that wrote it"
            )
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise UserError(
                f"{path} is not as this Stillhouse writes it ({where}: {problem['msg']}): give the same "
                f"`stillhouse run` again, which writes it anew, or use the Stillhouse that wrote it"
            ) from None

    def write(self, path: Path) -> None:
        write_json(path, self.as_json())

    def as_json(self) -> dict[str, object]:
        """The values as the file holds them."""
        return self.model_dump(mode="json", by_alias=True)
