"""Work in progress that a power cut has torn: what is whole is kept, what is not is trained again."""

import shutil
from pathlib import Path

from features.files import replacing
from orchestrator.errors import UserError
from orchestrator.storage.store import Store
from orchestrator.storage.tensors import load_training, snapshots_in
from orchestrator.training.record import LATEST, RUNNING, SCORES, TRIALS, Training, rows_of
from orchestrator.training.scores import load_scores


def mend(store: Store, work: Path) -> None:
    """Bring every training below a stage's work to a state from which it resumes, with a line for each that was torn.

    A torn snapshot gives way to the one before; a training whose record, rows or scores are torn begins anew, which
    ends as it would have: it follows from settings, seed and number.
    """
    for folder in sorted((work / TRIALS).glob("*")):
        if not folder.is_dir():
            continue
        try:
            training = Training.read(folder)
            load_scores(folder / SCORES)
            if training.state != RUNNING:
                rows_of(folder)
                latest = [folder / LATEST] if (folder / LATEST).exists() else []
                for file in (*snapshots_in(folder).values(), *latest):
                    load_training(file)
        except (UserError, FileNotFoundError) as error:  # a folder without a record is of a start that was cut short
            store.tell(f"  {folder.name} is trained again: {error}")
            store.remove(folder)
            continue
        if training.state == RUNNING:
            mend_snapshots(store, folder)


def mend_snapshots(store: Store, folder: Path) -> None:
    """Remove the torn ones; the newest of the others becomes the latest."""
    latest, whole = folder / LATEST, dict[int, Path]()
    torn = False
    for file in (*snapshots_in(folder).values(), latest):
        if not file.exists():
            continue
        try:
            whole[load_training(file)[0].epoch] = file
        except UserError as error:
            torn = True
            store.tell(f"  {folder.name} resumes from an earlier snapshot: {error}")
            store.remove(file)
    if torn and whole and not latest.exists():
        with replacing(latest) as temporary:
            shutil.copy(whole[max(whole)], temporary)
        store.push(latest)
