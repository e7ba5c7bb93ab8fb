"""Reading an experiment: a preset or a YAML file of the user's own, what it extends, and `--set a.b=c` on top."""

from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.config.experiment import Experiment
from orchestrator.config.plain_yaml import parse_yaml
from orchestrator.config.reading import explain, nearest, place_of, read_yaml
from orchestrator.config.space import SPACE
from orchestrator.errors import UserError

PRESETS = Path(__file__).parent / "presets"
EXTENDS, SYSTEMS = "extends", "systems"  # keys of files, not of experiments
WHOLE = ("corpus.groups", "corpus.layout.splits")  # whose keys are data: taken from one file or the other
ENTRIES = ("search.space",)  # of which each entry is
BY_NAME = ("teachers", "search.space")  # entries of the user's own, which null takes away


def load(source: str, overrides: Sequence[str] = ()) -> Experiment:
    """Load a preset by name, or a YAML file by path, with `a.b=value` overrides. Raises UserError."""
    tree = read_tree(source)
    if SYSTEMS in tree:
        if not isinstance(tree[SYSTEMS], dict):
            raise UserError(f"{source}: systems must be labels, each with its experiment")
        listed = tree[SYSTEMS].values()
        raise UserError(f"{source} is a set of experiments; name one of them: {', '.join(map(str, listed))}")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UserError(f"--set {override}: write it as a.b=value")
        keys = split_key(key)
        if keys[:2] == ["search", "space"] and len(keys) > 2 and isinstance(tree.get("search"), dict):
            tree["search"].setdefault("space", {name: domain.model_dump() for name, domain in SPACE.items()})
        require_teacher(tree, keys)
        value = parse_yaml(text, f"--set {override}")
        if value is None and ".".join(keys[:-1]) in BY_NAME:
            remove(tree, keys)
        else:
            assign(tree, keys, value)
    try:
        config = Experiment.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{source}: {explain(error, Experiment)}{meaning(error)}") from None
    for name, written, kind in taken_for_another(tree, config.model_dump()):
        raise UserError(f"{source}: {name} is {written!r}, which is no {kind}: write it as one")
    return config


def taken_for_another(written: object, read: object, name: str = "") -> Iterator[tuple[str, object, str]]:
    """Values that pydantic has made another kind of, such as true a 1: name, what was written, the kind it was read as.

    `written` is what YAML holds, `read` the settings as plain values.
    """
    if isinstance(written, Mapping) and isinstance(read, Mapping):
        for key in (key for key in written if key in read):
            yield from taken_for_another(written[key], read[key], f"{name}.{key}" if name else str(key))
    elif isinstance(written, list | tuple) and isinstance(read, list | tuple) and len(written) == len(read):
        for one, other in zip(written, read, strict=True):
            yield from taken_for_another(one, other, name)
    else:
        kinds = kind_of(written), kind_of(read)
        if None not in kinds and kinds[0] != kinds[1]:
            yield name, written, str(kinds[1])


def kind_of(value: object) -> str | None:
    """Of a single value; None of all others."""
    if isinstance(value, bool):
        return "truth value"
    return "number" if isinstance(value, int | float) else "text" if isinstance(value, str) else None


def presets() -> dict[str, str]:
    """The presets by name, each with the first line of its file, which says what it is."""
    return {
        path.stem: path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ").rstrip(".")
        for path in sorted(PRESETS.glob("*.yaml"))
    }


def load_systems(source: str, overrides: Sequence[str] = ()) -> dict[str, Experiment] | None:
    """The experiments of a file that is a set of them, by label; None where it is a single one. Raises UserError."""
    tree = read_tree(source)
    names = tree.get(SYSTEMS)
    if names is None:
        return None
    unknown = set(tree) - {"name", SYSTEMS}
    if unknown:
        raise UserError(f"{source}: beside systems there is '{min(unknown)}', which would be ignored; use --set")
    if not isinstance(names, dict) or not names:
        raise UserError(f"{source}: systems must name experiments, such as 1: dcase2021-1")
    return {str(label): load(str(name), overrides) for label, name in names.items()}


def read_tree(source: str, before: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings of a preset or file, over those of the one that it extends. Raises UserError."""
    presets = {path.stem: path for path in sorted(PRESETS.glob("*.yaml"))}
    path = presets.get(source, Path(source))
    if source not in presets and not path.is_file():
        raise UserError(
            f"no preset or file '{source}'{nearest(source, list(presets)) or '; presets: ' + ', '.join(presets)}"
        )
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise UserError(f"{path} is not a mapping of settings")
    find_beside(tree, path.parent, presets)
    parent = tree.pop(EXTENDS, None)
    if parent is None:
        return tree
    if parent in before:
        raise UserError(f"{source} extends itself, by way of {', '.join(before)}")
    return merged(read_tree(str(parent), (*before, source)), tree)


def find_beside(tree: dict[str, Any], folder: Path, presets: Container[str]) -> None:
    """Let the files that `extends`, `systems` and `corpus.groups` name be those beside the file that names them."""

    def beside(name: object) -> object:
        is_file = isinstance(name, str) and name not in presets and (folder / name).is_file()
        return str(folder / name) if is_file and isinstance(name, str) else name

    if EXTENDS in tree:
        tree[EXTENDS] = beside(tree[EXTENDS])
    if isinstance(tree.get(SYSTEMS), dict):
        tree[SYSTEMS] = {label: beside(name) for label, name in tree[SYSTEMS].items()}
    corpus = tree.get("corpus")
    if isinstance(corpus, dict) and "groups" in corpus:
        corpus["groups"] = beside(corpus["groups"])


def merged(under: dict[str, Any], over: dict[str, Any], where: str = "") -> dict[str, Any]:
    """`over` on top of `under`, section by section; a list, a value or what is one thing takes the other's place.

    Null takes an entry of BY_NAME away.
    """
    both = {}
    for key, value in over.items():
        path = f"{where}.{key}" if where else str(key)
        whole = path in WHOLE or where in ENTRIES
        if isinstance(under.get(key), dict) and isinstance(value, dict) and not whole:
            both[key] = merged(under[key], value, path)
    together = {**under, **over, **both}
    return {key: value for key, value in together.items() if value is not None} if where in BY_NAME else together


def split_key(key: str) -> list[str]:
    """The sections that a setting is in. Entries of the search's space have names of two parts: recipe.temperature."""
    for section in ENTRIES:
        if key.startswith(f"{section}."):
            first, *rest = key.removeprefix(f"{section}.").split(".")
            return [*section.split("."), ".".join([first, *rest[:1]]), *rest[1:]]
    return key.split(".")


def meaning(error: ValidationError) -> str:
    """Where a setting that is missing is explained; empty for other mistakes."""
    if error.errors()[0]["type"] != "missing":
        return ""
    setting = place_of(error)
    known = next((section for section in ENTRIES if setting.startswith(f"{section}.")), setting)
    return f"; `stillhouse config explain {known}` says what it is"


def require_teacher(tree: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Raises UserError where `--set` changes a teacher that there is not: its name is misspelt."""
    known = tree.get("teachers") or {}
    if keys[0] == "teachers" and len(keys) > 2 and isinstance(known, Mapping) and keys[1] not in known:
        hint = nearest(keys[1], list(known)) or f"; there are {', '.join(known) or 'none'}"
        raise UserError(
            f"--set {'.'.join(keys)}: no teacher '{keys[1]}'{hint}; a new one is set as a whole, teachers."
            f"{keys[1]}={{...}}"
        )


def remove(tree: dict[str, Any], keys: Sequence[str]) -> None:
    """Take an entry of the user's own away. Raises UserError where there is none of that name."""
    place: Any = tree
    for key in keys[:-1]:
        place = place.get(key, {}) if isinstance(place, dict) else {}
    if not isinstance(place, dict) or keys[-1] not in place:
        known = list(place) if isinstance(place, dict) else []
        hint = nearest(keys[-1], known) or f"; there are {', '.join(known) or 'none'}"
        raise UserError(f"--set {'.'.join(keys)}=null: nothing of that name to take away{hint}")
    del place[keys[-1]]


def assign(tree: dict[str, Any], keys: list[str], value: object) -> None:
    """Set one dotted setting in a tree. Raises UserError where a value stands in place of a section."""
    for depth, key in enumerate(keys[:-1]):
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise UserError(f"--set {'.'.join(keys)}: '{'.'.join(keys[: depth + 1])}' is a value, not a section")
    tree[keys[-1]] = value
