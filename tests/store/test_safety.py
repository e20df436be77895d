"""What SECURITY.md promises, each by a test: reading runs no code, paths stay in their folder, nothing unpickles."""

from __future__ import annotations

import ast
import os
import pickle
import re
from pathlib import Path

import normbench
import numpy as np
import pyarrow as pa
import pytest
from normbench import norms
from normbench.lab.data import DataError, locate
from normbench.pages.writer import SiteError, Writer, environment
from normbench.plan.identity import identity
from normbench.spec.plugins import PluginError
from normbench.spec.trial import DataSpec
from normbench.store.files import FilesError, LocalFiles
from normbench.store.merge import export, merge
from normbench.store.schema import SCHEMA, to_row
from normbench.store.store import SUITE, Store, StoreError, to_bytes
from normbench.store.verify import verify
from normbench.suite._models import NAME

from tests.command import bench
from tests.conftest import MakeTrial
from tests.store.samples import contents, fill, outcome, rows

PACKAGE = Path(normbench.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
#: Modules that turn bytes into objects by running what the bytes say.
UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
OUTSIDE = ("../../x", "..", ".", "/tmp/x", "a/b", "a\\b", "", "x\0y", "A" * 65, "é")


class Trap:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def _dotted(node: ast.expr) -> str:
    return ast.unparse(node)


def _offences(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [f"imports {a.name}" for a in node.names if a.name.partition(".")[0] in UNPICKLERS]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in UNPICKLERS:
            found.append(f"imports {node.module}")
        elif isinstance(node, ast.Call):
            name = _dotted(node.func)
            options = {k.arg: k.value for k in node.keywords}
            if name in {"eval", "exec", "compile", "__import__"} or name.endswith("read_pickle"):
                found.append(f"calls {name}")
            if name.endswith("torch.load") and not (
                isinstance(o := options.get("weights_only"), ast.Constant) and o.value is True
            ):
                found.append("torch.load without weights_only=True")
            if "allow_pickle" in options and not (
                isinstance(o := options["allow_pickle"], ast.Constant) and o.value is False
            ):
                found.append("allow_pickle")
            if re.fullmatch(r"(yaml\.)?(load|load_all|full_load|unsafe_load)", name) and name.startswith("yaml."):
                loader = (
                    ast.unparse(options["Loader"])
                    if "Loader" in options
                    else ast.unparse(node.args[1])
                    if len(node.args) > 1
                    else ""
                )
                if not loader.endswith(("SafeLoader", "_Loader")):
                    found.append(f"calls {name} with {loader or 'no loader'}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_no_source_unpickles_or_evaluates(path: Path) -> None:
    assert _offences(ast.parse(path.read_bytes())) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from cloudpickle import loads",
        "torch.load(x)",
        "np.load(x, allow_pickle=True)",
        "pd.read_pickle(x)",
        "eval(x)",
        "yaml.load(x)",
    ],
)
def test_the_scan_can_fail(code: str) -> None:
    assert _offences(ast.parse(code))


def test_a_pickle_in_a_shards_place_is_named_and_not_run(tmp_path: Path, make_trial: MakeTrial) -> None:
    store, mark = Store(tmp_path / "r"), tmp_path / "ran"
    (trial,) = fill(store, make_trial, [0])
    bad = store.path("s", "0" * 16)
    bad.write_bytes(pickle.dumps(Trap(mark)))
    (tmp_path / "r" / "s" / "compact-0123456789abcdef.parquet").write_bytes(pickle.dumps(Trap(mark)))
    (tmp_path / "r" / "s" / f".lease-{'0' * 16}").write_bytes(pickle.dumps(Trap(mark)))
    assert len(rows(store)) == 1
    assert len(store.problems) == 2
    assert len(verify(store)[1]) == 2
    merge(store, Store(tmp_path / "other"))
    for verb in (["results", "verify"], ["results", "compact"], ["results", "migrate"], ["site", "--out", "site"]):
        arguments = [*verb, "r"] if verb[-1] == "migrate" else [*verb, "--results", "r"]
        assert "Traceback" not in bench(*arguments, cwd=tmp_path).stderr
    store.write("s", trial, identity(trial, None).to_dict(), outcome())
    assert not mark.exists()
    pickle.loads(pickle.dumps(Trap(mark)))
    assert mark.exists()  # the trap works


def test_a_pickle_in_a_datasets_place_is_named_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    folder = tmp_path / "data" / "mine"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        (folder / f"{split}.parquet").write_bytes(pickle.dumps(Trap(mark)))
    (tmp_path / "s.yaml").write_text(
        "suite: s\nabout: A test.\ndata: {dataset: mine}\nmodels: [resnet18]\nnorms: [bn]\nbatch_sizes: "
        "[16]\nwidths: [1]\nseeds: 1\n"
    )
    answer = bench("plan", "s.yaml", "--data", "data", "--results", "r", cwd=tmp_path)
    assert answer.returncode == 2
    assert "as Parquet" in answer.stderr
    np.save(tmp_path / "x.npy", np.array([Trap(mark)], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"pickle|Python objects"):
        np.load(tmp_path / "x.npy", mmap_mode="r")  # as the package calls it
    assert not mark.exists()


def test_a_suite_file_is_data(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "s.yaml").write_text(f'suite: !!python/object/apply:os.mkdir ["{mark}"]\n')
    answer = bench("plan", "s.yaml", cwd=tmp_path)
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr
    assert not mark.exists()


@pytest.mark.parametrize("text", OUTSIDE)
def test_no_text_becomes_a_path_outside_of_the_results(tmp_path: Path, make_trial: MakeTrial, text: str) -> None:
    store = Store(tmp_path / "r")
    for suite, trial_id in ((text, "0" * 16), ("s", text)):
        with pytest.raises(StoreError):
            store.path(suite, trial_id)
    with pytest.raises(StoreError):
        list(store.rows([text]))
    with pytest.raises(StoreError):
        store.write(text, make_trial(), {"hash": ""}, outcome())
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("column", ["suite", "trial_id"])
def test_a_sealed_shard_that_names_another_place_goes_nowhere(
    tmp_path: Path, make_trial: MakeTrial, column: str
) -> None:
    """A careful forger's: the checksum fits, the name leads out."""
    store, trial = Store(tmp_path / "in" / "r"), make_trial()
    row = to_row("s", trial, identity(trial, None).to_dict(), outcome()) | {column: "../../x"}
    store.files.write(f"s/{trial.trial_id}.parquet", to_bytes(pa.Table.from_pylist([row], schema=SCHEMA)))
    fill(store, make_trial, [1])
    before = contents(tmp_path)
    target = Store(tmp_path / "in" / "out")
    export(store, target)
    merge(store, target)
    assert verify(store)[1]
    bench("results", "compact", "--results", str(store.root), cwd=tmp_path / "in")
    bench("site", "--results", str(store.root), "--out", str(tmp_path / "in" / "site"), cwd=tmp_path / "in")
    made = {n for n in contents(tmp_path) if n not in before}
    assert made
    assert all(n.startswith(("in/out/s/", "in/site/", "in/r/s/compact-")) for n in made), made
    assert len(rows(target)) == 1


def test_a_link_out_of_the_results_is_not_followed(tmp_path: Path, make_trial: MakeTrial) -> None:
    fill(Store(tmp_path / "secret"), make_trial, [0, 1])
    store = Store(tmp_path / "r")
    fill(store, make_trial, [2])
    hidden = next((tmp_path / "secret" / "s").glob("*.parquet"))
    (tmp_path / "r" / "s" / hidden.name).symlink_to(hidden)
    (tmp_path / "r" / "t").symlink_to(tmp_path / "secret" / "s")
    assert [r["seed"] for r in rows(store)] == [2]
    assert store.suites() == ["s"]


def test_files_refuse_names_that_leave_the_folder(tmp_path: Path) -> None:
    files = LocalFiles(tmp_path / "r")
    for name in ("../x", "a/../../x", "/x", "a//b", "..", ""):
        for act in (files.read, files.remove, lambda n: files.write(n, b""), lambda n: files.move(n, "a")):
            with pytest.raises(FilesError):
                act(name)
    assert contents(tmp_path) == {}


def test_a_page_is_written_inside_the_site_only(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "site", {}, environment())
    with pytest.raises(SiteError, match="outside"):
        writer.text("../x.html", "x")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("name", ["..", ".", "hub:../..", "hub:a/b:../..", "hub:a/.."])
def test_a_datasets_name_does_not_leave_the_data_folder(tmp_path: Path, data_dir: Path, name: str) -> None:
    with pytest.raises(DataError):
        locate(DataSpec(dataset=name), data_dir / "stripes", download=False)


@pytest.mark.parametrize("split", ["../stripes/train", "/etc/train", "*", "tr?in", "", "..", "a/b"])
def test_a_splits_name_does_not_leave_the_dataset(tmp_path: Path, data_dir: Path, split: str) -> None:
    with pytest.raises(DataError, match="no name of a split"):
        locate(DataSpec(dataset="stripes", train_split=split), data_dir, download=False)


@pytest.mark.parametrize("name", ["../evil", "..", "/tmp/evil", "evil.py", "base", "_private", "os.path"])
def test_a_plug_ins_name_is_looked_up_never_a_path(name: str) -> None:
    with pytest.raises(PluginError):
        norms.registry.get(name)


def test_suites_have_names_that_the_store_reads() -> None:
    assert SUITE.pattern == NAME.pattern


@pytest.mark.parametrize(
    ("page", "point"),
    [("SECURITY.md", r"^- .*(?:\n  .*)*"), ("docs/reliability.md", r"(?<=\n)\|.*(?=\n)")],
    ids=["security", "reliability"],
)
def test_every_promise_has_its_test(page: str, point: str) -> None:
    """Each point of SECURITY.md that promises something names a test that is there, and so does what was measured."""
    root = PACKAGE.parents[1]
    text = (root / page).read_text(encoding="utf-8").rpartition("## Measured")[2]
    promised = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(promised) >= 8
    for file, name in promised:
        assert f"def {name}(" in (root / file).read_text(encoding="utf-8"), (file, name)
    points = [found for found in re.findall(point, text, re.MULTILINE) if not found.startswith(("| what |", "| ---"))]
    assert points
    assert [found for found in points if "::test_" not in found] == []
