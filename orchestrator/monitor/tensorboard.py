"""Trainings as TensorBoard's event files, while they run."""

import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.storage.runs import TENSORBOARD
from orchestrator.storage.store import Store
from orchestrator.training.record import Settings, Training
from orchestrator.training.rows import Row

SCALARS = ("loss", "accuracy", "log_loss", "learning_rate")
EVENTS = "events.out.tfevents.stillhouse"


def to_tensorboard(store: Store, run: str, training: Training, rows: Sequence[Row]) -> None:
    """Update RUN/tensorboard with all the rows of a training.

    Trials call this where they train, the driver calls it for final students.
    """
    logs = store.root / run / TENSORBOARD
    write_tensorboard(logs, training.stage, training.trial, training.settings, rows)
    store.push(logs / training.stage / training.trial / EVENTS)


def write_tensorboard(folder: Path, stage: str, trial: str, settings: Settings, rows: Sequence[Row]) -> None:
    """Append to FOLDER/STAGE/TRIAL those of a training's `rows`, one an epoch, that are not there yet.

    The file is closed in between. tensorboardX's own writers hold a thread and a queue for every file until the
    process ends, and then print a traceback where it is interrupted.
    """
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue] - generated
    from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue] - generated
    from tensorboardX.summary import text

    file = folder / stage / trial / EVENTS
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as out:
        out.seek(0)
        ends = list(records(out.read()))
        out.truncate(ends[-1] if ends else 0)  # a driver that was killed may have left half a record
        table = "\n".join(["| setting | value |", "|---|---|", *(f"| {key} | {settings[key]} |" for key in settings)])
        events = [Event(file_version="brain.Event:2"), Event(summary=text("settings", table))]
        for row in rows:
            values = {key: row[key] for key in SCALARS if row[key] is not None}
            summary = Summary(value=[Summary.Value(tag=key, simple_value=value) for key, value in values.items()])
            events.append(Event(step=row["epoch"], summary=summary))
        for event in events[len(ends) :]:
            event.wall_time = time.time()
            out.write(record(event.SerializeToString()))


def records(content: bytes) -> Iterator[int]:
    """Where each whole record of an event file ends."""
    end = 0
    while len(content) >= end + 8:
        end += 16 + struct.unpack_from("<Q", content, end)[0]
        if end > len(content):
            return
        yield end


def record(event: bytes) -> bytes:
    """An event as it stands in an event file: its length, the event, and a checksum of each."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(event))
    return b"".join((length, struct.pack("<I", masked_crc32c(length)), event, struct.pack("<I", masked_crc32c(event))))
