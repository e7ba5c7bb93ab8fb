"""A digest of code changes with what is computed, and with nothing else."""

import importlib

import pytest

from orchestrator import code
from orchestrator.code import code_of, digest_with, reached, source_of

BEFORE = {
    "models.a": '''
"""Doc."""
import math
import torch.nn.functional as F
from models.b import scaled
from models import c

LIMIT = 3
UNUSED = 4

def compute(x: int) -> int:
    """Doc."""
    return scaled(min(x, LIMIT)) + c.shifted(x)  # why

def other(x):
    return x
''',
    "models.b": """
from models.d import Helper

class Result:
    def halved(self):
        return Helper().half

def scaled(x: "Result", y: Result = None):
    return x * 2
""",
    "models.c": "def shifted(x):\n    return x + 1\n\ndef unused(x):\n    return x\n",
    "models.d": "class Helper:\n    half = 0.5\n",
    "orchestrator.storage.e": "def carry(x):\n    return x\n",
}


def digest(changes: dict[str, tuple[str, str]] | None = None, root: str = "models.a:compute") -> str:
    texts = dict(BEFORE)
    for module, (old, new) in (changes or {}).items():
        assert old in texts[module]
        texts[module] = texts[module].replace(old, new)
    return digest_with((root,), texts.get)


@pytest.mark.parametrize(
    "changes",
    [
        {"models.a": ("  # why", "  # because")},
        {"models.a": ('    """Doc."""\n', "")},
        {"models.a": ("(x: int) -> int", "(x: float)")},
        {"models.a": ("scaled(min(x, LIMIT)) + c.shifted(x)", "(scaled(min(x, LIMIT))\n            + c.shifted(x))")},
        {"models.a": ("UNUSED = 4", "UNUSED = 5")},
        {"models.a": ("    return x\n", "    return -x\n")},
        {"models.c": ("def unused(x):\n    return x", "def unused(x):\n    return 0")},
        {"models.a": ("import math\n", "from orchestrator.storage.e import carry\n")},
    ],
    ids=["comment", "docstring", "annotation", "formatting", "constant", "function", "another's function", "import"],
)
def test_what_computes_nothing_else_does_not_count(changes):
    assert digest(changes) == digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"models.a": ("LIMIT = 3", "LIMIT = 2")},
        {"models.a": ("torch.nn.functional as F", "torch.nn.functional as F\nprint('imported')")},
        {"models.b": ("x * 2", "x + x")},
        {"models.c": ("x + 1", "x + 2")},
        {"models.d": ("0.5", "0.25")},
    ],
    ids=["constant", "at import", "by name", "by module", "behind an annotation"],
)
def test_what_the_root_uses_counts(changes):
    assert digest(changes) != digest()


def test_the_place_of_a_file_does_not_count():
    texts = {name.replace("models.b", "features.moved"): text for name, text in BEFORE.items()}
    texts["models.a"] = texts["models.a"].replace("from models.b import scaled", "from features.moved import scaled")
    assert digest_with(("models.a:compute",), texts.get) == digest()


def test_rooms_that_carry_do_not_count():
    texts = BEFORE | {
        "models.a": "from orchestrator.storage.e import carry\n\ndef compute(x):\n    return carry(x)\n",
        "orchestrator.storage.e": "def carry(x):\n    return list(x)\n",
    }
    before = texts | {"orchestrator.storage.e": BEFORE["orchestrator.storage.e"]}
    assert digest_with(("models.a:compute",), texts.get) == digest_with(("models.a:compute",), before.get)


def test_a_table_counts_by_its_rows_in_use():
    def texts(rows: str, body: str) -> dict[str, str]:
        return {
            "models.t": f"ROWS = Table('x', {{{rows}}})\n\ndef build(n):\n    return ROWS[n]\n",
            "models.one": f"class One:\n    def run(self):\n        return {body}\n",
            "models.two": f"class Two:\n    def run(self):\n        return {body}\n",
        }

    def of(rows: str, body: str, *entries: str) -> str:
        return digest_with(("models.t:build", *entries), texts(rows, body).get)

    assert of("'a': 1", "1") == of("'a': 1, 'b': 2", "1") == of("", "2")
    assert of("", "1", "models.one:One") != of("", "2", "models.one:One")


def test_what_another_process_decodes_with_counts():
    """Nothing is used by a name in a text alone."""
    found = reached(("features.audio:read",), lambda name: source_of(name) if name.startswith("features.") else None)
    assert any(definition.text.startswith("Module(body=[FunctionDef(name='decode',") for definition in found)


def test_a_users_module_in_a_single_file_counts(tmp_path, monkeypatch):
    """As a loss beside an experiment, `lone:Loss`."""
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for number, text in enumerate(("FACTOR = 1", "FACTOR = 2", "FACTOR = 2  # why")):
        name = f"lone_{number}"
        (tmp_path / f"{name}.py").write_text(f"{text}\n\ndef loss(x):\n    return FACTOR * x\n")
        importlib.invalidate_caches()
        assert source_of(name) is not None and source_of(f"{name}.part") is None
        digests.append(code_of(f"{name}:loss"))
    assert digests[0] != digests[1] == digests[2]


PACKAGE = {
    "__init__.py": "from .inner import Loss\n",
    "inner/__init__.py": "from . import scaled\nfrom .far import away\nfrom ..top import high\n\n"
    "def Loss(x):\n    return scaled.scale(x) + away(x) + high(x)\n",
    "inner/scaled.py": "def scale(x):\n    return 2 * x\n",
    "inner/far.py": "import ours.deep.down\n\ndef away(x):\n    return ours.deep.down.drop(x)\n",
    "deep/__init__.py": "",
    "deep/down.py": "FACTOR = 3\nif FACTOR > 2:\n    FACTOR += 1\n\ndef drop(x):\n    return FACTOR * x\n",
    "top.py": "try:\n    from .fast import high\nexcept ImportError:\n    def high(x):\n        return x\n",
    "fast.py": "def high(x):\n    return x - 1\n",
}


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("inner/__init__.py", "scaled.scale(x) +", "scaled.scale(x) -"),
        ("inner/scaled.py", "2 * x", "3 * x"),
        ("inner/far.py", "drop(x)", "drop(-x)"),
        ("deep/down.py", "FACTOR * x", "FACTOR + x"),
        ("deep/down.py", "FACTOR += 1", "FACTOR += 2"),
        ("top.py", "        return x\n", "        return -x\n"),
        ("fast.py", "x - 1", "x - 2"),
    ],
)
def test_all_of_a_users_package_that_a_name_leads_to_counts(tmp_path, monkeypatch, file, old, new):
    """By relative imports, also of a package's own file, by dotted names, and where a module does something."""
    digests = []
    for number, change in enumerate(((old, old), (old, new), (old, old))):
        root = tmp_path / str(number) / "ours"
        for name, text in PACKAGE.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text.replace(*change) if name == file else text)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(root.parent)
            for cached in (code.source_of, code.file_of, code.digest):
                cached.cache_clear()
            digests.append(code_of("ours:Loss"))
    assert digests[0] == digests[2] != digests[1] and digests[0] != code_of("ours:Nothing")
