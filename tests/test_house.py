"""How the house is built, read from its sources: no import runs back up, heavy libraries wait, files stay short."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import normbench
import pytest

PACKAGE = Path(normbench.__file__).parent
ROOT = PACKAGE.parents[1]

#: The stages from the bottom up: a module imports those before its own stage and those within it, none that follows.
#: A name is that of a module, or of a room and all that it holds; the longest that fits counts. Two rooms have a part
#: that serves a stage below the rest: the store tells by digests and identities which rows are good, and studies draw
#: with the charts of the pages.
STAGES = (
    ("errors", "paths"),
    ("spec",),
    ("tensors",),
    ("norms", "attacks", "measures", "statistics"),
    ("suite",),
    ("plan.digests", "plan.identity"),
    ("store",),
    ("lab",),
    ("plan",),
    ("runner",),
    ("trust",),
    ("board",),
    ("pages.axes",),
    ("pages.charts",),
    ("pages.line_charts",),
    ("studies",),
    ("claims",),
    ("published",),
    ("pages",),
    ("cli",),
    ("api",),
)

#: Libraries that take long to load or that not every command needs: the rooms and modules whose loading may load them.
#: Elsewhere they wait for the function that needs them.
LATE = {
    "torch": (
        *("tensors", "lab", "norms.layers", "norms._bench", "norms._measure", "norms.check", "statistics._layers"),
        *("attacks._balls", "attacks._corrupt", "measures._lanczos", "measures._loss"),
        *("claims._affine", "claims._angles", "claims._certified", "claims._compared", "claims._disturbed"),
        *(
            "claims._dynamics",
            "claims._landscape",
            "claims._layers",
            "claims._merged",
            "claims._probes",
            "claims._small",
        ),
    ),
    "timm": ("lab",),
    "ray": (),
    "foolbox": (),
    "eagerpy": (),
    "pyautoattack": (),
    "adv_lib": (),
    "tensorboard": (),
    "wandb": (),
    "mlflow": (),
    "huggingface_hub": (),
    "altair": ("pages", "studies", "claims"),
    "vl_convert": ("pages", "studies", "claims"),
    "jinja2": ("pages", "studies", "claims"),
}
#: Loaded where nothing is trained, though the rest of their rooms may load torch: a plan looks at data.
EARLY = ("lab", "lab.data", "tensors", "norms.layers", "lab.engine")


SOURCES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


#: Every module by its name within the package, whose own is empty.
PATHS = {name_of(path): path for path in SOURCES}


@cache
def modules() -> dict[str, ast.Module]:
    """The sources of every module, read where a test asks for them: processes that only list the tests do without."""
    return {name: ast.parse(path.read_bytes()) for name, path in PATHS.items()}


def imports(tree: ast.Module, *, loading: bool = False) -> Iterator[str]:
    """Full names of what a module imports: of modules, and of names in them.

    loading: only what is imported while the module is loaded, not in functions or for type checkers.
    """
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the whole path"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif loading and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        elif loading and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def ours(name: str) -> str | None:
    """The module of this package that a full name lies in, None for one of a library."""
    top, _, rest = name.partition(".")
    if top != PACKAGE.name:
        return None
    while rest not in PATHS:
        rest = rest.rpartition(".")[0]
    return rest


def within(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


def stage(module: str) -> int:
    """The number of a module's stage. The package itself, whose face may name everything, comes first: it is imported
    by all and must load nothing.
    """
    if not module:
        return -1
    rooms = [(len(room), i) for i, rooms in enumerate(STAGES) for room in rooms if within(module, room)]
    assert rooms, f"{module} stands in no stage: add it to STAGES"
    return max(rooms)[1]


def upward(module: str, tree: ast.Module) -> list[str]:
    """What a module imports from stages above its own."""
    found = {m for name in imports(tree, loading=not module) if (m := ours(name)) is not None}
    return sorted(f"{module or 'the package'} -> {m}" for m in found if stage(m) > stage(module))


def test_no_import_runs_back_up() -> None:
    assert [line for module, tree in modules().items() for line in upward(module, tree)] == []


def test_every_stage_is_there() -> None:
    for room in (room for rooms in STAGES for room in rooms):
        assert room in PATHS, room


def loads(module: str, direct: Mapping[str, set[str]]) -> set[str]:
    """The libraries that loading a module loads, by its own imports and those of all that it loads. direct: what the
    sources of modules import while they are loaded.
    """
    seen, waiting, libraries = set(), [module], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting.append(name.rpartition(".")[0])  # the room is loaded first
        for target in direct[name]:
            inside = ours(target)
            if inside is None:
                libraries.add(target.partition(".")[0])
            else:
                waiting.append(inside)
    return libraries


def hasty(trees: Mapping[str, ast.Module]) -> list[str]:
    """Modules whose loading loads a library that should wait."""
    direct = {module: set(imports(tree, loading=True)) for module, tree in trees.items()}
    found = []
    for module in trees:
        early = LATE.keys() if module in EARLY else {k for k, rooms in LATE.items() if not _any(module, rooms)}
        found += [f"loading {module or 'the package'} loads {x}" for x in sorted(loads(module, direct) & early)]
    return found


def _any(module: str, rooms: Iterable[str]) -> bool:
    return any(within(module, room) for room in rooms)


def test_heavy_libraries_wait() -> None:
    assert hasty(modules()) == []


def test_files_are_short() -> None:
    """400 lines are the aim; what grows past 500 is in need of a second file."""
    lengths = {path.relative_to(PACKAGE).as_posix(): len(path.read_text().splitlines()) for path in SOURCES}
    assert {path: n for path, n in lengths.items() if n > LONGEST} == {}


def test_no_stand_ins_in_the_package() -> None:
    """Exchanging parts of libraries is for tests; what timm needs stands in `normbench.lab.network._timm`."""
    users = {m for m, tree in modules().items() for name in imports(tree) if name.startswith("unittest")}
    assert users == set()


FAULTS = {
    "an import that runs back up": ("store.files", "from normbench.plan.plan import Plan"),
    "one within a function": ("spec.trial", "def f():\n    from normbench import lab"),
    "one that only types need": ("board.make", "if TYPE_CHECKING:\n    from normbench.cli.main import app"),
    "the package's face": ("", "from normbench.lab import train"),
    "a stage of its own": ("plan.digests", "from normbench.store.schema import SCHEMA"),
}


@pytest.mark.parametrize(("module", "line"), FAULTS.values(), ids=FAULTS)
def test_an_upward_import_is_seen(module: str, line: str) -> None:
    assert upward(module, ast.parse(line))


HASTE = {
    "torch in the suite": ("suite._load", "import torch"),
    "torch behind another module": ("plan.plan", "from normbench.tensors.layers import WEIGHTED"),
    "torch by the room of a module": ("tensors", "import torch.nn as nn"),
    "torch where data is looked at": ("lab.data", "if x:\n    import torch"),
    "ray in the runner": ("runner.tune", "try:\n    from ray import tune\nexcept ImportError: pass"),
    "timm in a method": ("norms.gn", "class A:\n    import timm"),
}


@pytest.mark.parametrize(("module", "line"), HASTE.values(), ids=HASTE)
def test_a_hasty_import_is_seen(module: str, line: str) -> None:
    tree = ast.Module([*modules()[module].body, *ast.parse(line).body], [])
    assert any(text.startswith(f"loading {module} loads ") for text in hasty({**modules(), module: tree}))


def test_text_files_are_utf8_whatever_the_locale() -> None:
    """Whoever reads or writes text says its encoding: without one it would be the locale's."""
    silent = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or any(k.arg == "encoding" for k in node.keywords):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            is_text = {
                "read_text": owner != "entry.dist",  # of a package's metadata, which are UTF-8
                "write_text": True,
                "open": owner not in {"os", "Image", "checkpoints", "gzip", "archive"}
                and not any("b" in m for m in modes),
                "fdopen": not any("b" in m for m in modes),
                "run": any(k.arg in {"text", "universal_newlines"} for k in node.keywords),
                "Popen": any(k.arg in {"text", "universal_newlines"} for k in node.keywords),
            }
            if is_text.get(name):
                silent.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {ast.unparse(node)[:60]}")
    assert silent == []
