"""What libraries keep to themselves is used in few places, each declared and with a test."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

import pytest

from tests.test_house import LATE, PACKAGE, ROOT, imports, modules, ours


@dataclass(frozen=True)
class Private:
    """Names with a leading underscore that a module takes from libraries, or puts on their objects."""

    names: frozenset[str]
    reason: str
    test: str = ""
    """What fails when one of them changes; empty for names of our own."""


#: All modules that do so.
PRIVATE = {
    "tensors.private": Private(
        frozenset({"_BatchNorm", "_pytree", "_weight_norm", "_version"}),
        "torch has no public class of all batch norms, walk through nested arguments, or count of writes",
        "tests/tensors/test_private.py",
    ),
    "tensors.operations": Private(
        frozenset({"_python_dispatch", "_schema", "_to_copy", "_linalg_eigh", "_linalg_svd", "_linalg_check_errors"}),
        "nothing else shows which operators a backward pass and an update run, or which of them make the host wait",
        "tests/tensors/test_operations.py",
    ),
    "lab.engine.compiling": Private(
        frozenset({"_inductor"}),
        "a pass over the compiler's graphs, and where it keeps code by default",
        "tests/lab/test_engine.py",
    ),
    "lab.network.surgery": Private(
        frozenset({"_modules"}),
        "its digest stands in stored results, which another spelling would make stale",
        "tests/lab/test_model.py",
    ),
    "lab.network.swap": Private(
        frozenset({"_BatchNorm", "_InstanceNorm"}),
        "names of classes that are looked up along a layer's inheritance",
        "tests/lab/test_swap.py",
    ),
    "norms.layers.batch": Private(
        frozenset({"_check_input_dim"}),
        "the class of all batch norms leaves it open how many axes it accepts; its digest stands in stored results",
        "tests/norms/test_layers.py",
    ),
    "lab.network.flow": Private(frozenset({"_mark", "_replace"}), "a mark of our own that tensors carry"),
    "tensors.lipschitz": Private(
        frozenset({"_bound", "_is_view"}), "a mark of our own; that a tensor is a view, nothing public says"
    ),
    "runner.cluster": Private(
        frozenset({"_node_ip_address", "_temp_dir"}),
        "Ray has no public way to listen on this machine alone, or to keep its session in a folder of ours",
        "tests/runner/test_start.py",
    ),
    "runner.patience": Private(
        frozenset({"_private"}),
        "Ray has no setting for the 30 s that it gives its raylet",
        "tests/runner/test_start.py",
    ),
    "runner.halving": Private(
        frozenset({"_searches", "_jobs", "_receive", "_stopped"}), "an inner class and the object around it"
    ),
    "runner.token": Private(
        frozenset({"_raylet"}),
        "Ray has no public way to read its settings anew, or to ask whether it goes by a token",
        "tests/runner/test_start.py",
    ),
    "suite._load": Private(
        frozenset({"_changes", "_source"}), "where a suite was read and by which flags, set by what read it"
    ),
}
#: Documented in spite of its underscore.
PUBLIC = {"os._exit"}
#: Texts that name nothing of Python's: parts of names of columns, a key of Hugging Face's metadata, a folder.
WORDS = {"_column", "_high", "_low", "_shipped", "_type"}


def hidden(name: str) -> bool:
    return re.fullmatch(r"_[^\W_]\w*", name) is not None


def own_attributes(trees: Iterable[ast.Module]) -> set[str]:
    """Names with an underscore that this package's classes give, to methods, class variables and what `self` holds."""
    found = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.ClassDef):
            found |= _given(node.body)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            found.add(node.attr)
    return found


def _given(body: Iterable[ast.stmt]) -> set[str]:
    """Names that a class or a module gives: of functions and classes, and of variables."""
    found = {n.name for n in body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    assigned = (n for s in body if isinstance(s, ast.Assign | ast.AnnAssign) for n in ast.walk(s))
    return found | {n.id for n in assigned if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


@cache
def own() -> set[str]:
    return own_attributes(modules().values())


def private(tree: ast.Module) -> set[str]:
    """Names with an underscore that a module takes from elsewhere: imported from libraries, attributes of anything but
    `self`, arguments by keyword, and names as texts.
    """
    found: set[str] = set()
    texts = own() | WORDS | _given(tree.body)
    for name in imports(tree):
        if ours(name) is None:
            found.update(part for part in name.split(".") if hidden(part))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and hidden(node.attr):
            if ast.unparse(node) not in PUBLIC and not (_is_self(node.value) and node.attr in own()):
                found.add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg and hidden(node.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "hasattr", "setattr", "delattr"}:
            match node.args[:2]:
                case [whose, ast.Constant(value=str(name))] if hidden(name) and not _is_self(whose):
                    found.add(name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            parts = node.value.split(".") if re.fullmatch(r"[\w.]+", node.value) else []
            library = len(parts) > 1 and parts[0] in LATE.keys() | {"multiprocessing", "concurrent"}
            if library or len(parts) == 1:
                found.update(part for part in parts if hidden(part) and part not in texts)
    return found


def overrides(module: str) -> set[str]:
    """Names with an underscore that classes of a module give to what a library's class, theirs by inheritance, has."""
    found: set[str] = set()
    loaded = import_module(f"{PACKAGE.name}.{module}".rstrip("."))
    for node in modules()[module].body:
        if isinstance(node, ast.ClassDef):
            foreign = [c for c in vars(loaded)[node.name].__mro__ if not c.__module__.startswith(PACKAGE.name)]
            found |= {n for n in _given(node.body) if hidden(n) and any(n in vars(c) for c in foreign)}
    return found


def declared(module: str) -> frozenset[str]:
    return PRIVATE[module].names if module in PRIVATE else frozenset()


def test_private_names_of_libraries_are_declared() -> None:
    found = {m: (private(tree) | overrides(m)) - declared(m) for m, tree in modules().items()}
    assert {m: names for m, names in found.items() if names} == {}


@pytest.mark.parametrize("module", PRIVATE)
def test_what_is_declared_is_used_and_watched_over(module: str) -> None:
    entry = PRIVATE[module]
    assert entry.names <= private(modules()[module]) | overrides(module), "no longer used"
    if entry.test:
        tree = ast.parse((ROOT / entry.test).read_bytes())
        assert module in {ours(name) for name in imports(tree)}


INTIMACIES = [
    "import torch._dynamo",
    "from torch import _dynamo",
    "from torch.utils._pytree import tree_leaves",
    "from timm.models._builder import build_model_with_cfg",
    "from multiprocessing.forkserver import _forkserver",
    "torch._C._jit_pass()",
    "x._version",
    "super()._check_input_dim(x)",
    "self._backward_hooks.clear()",
    "timm.models._registry.x = 1",
    "ray.init(_redis_password='')",
    "options = {'_redis_password': ''}",
    "getattr(model, '_buffers')",
    "import_module('torch._inductor.config')",
]


@pytest.mark.parametrize("line", INTIMACIES)
def test_private_use_is_seen(line: str) -> None:
    assert private(ast.parse(line))
