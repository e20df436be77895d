"""Weights of trained networks: kept beside their row, and loaded again to the very network that the row is about."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from normbench.api.weights import load
from normbench.cli.main import app
from normbench.lab import data
from normbench.lab.trial_run import Context, run
from normbench.lab.weights import size_of
from normbench.paths import checkout
from normbench.plan import plan
from normbench.plan.identity import identity
from normbench.spec.outcome import Outcome, Status
from normbench.spec.trial import Trial
from normbench.store import weights
from normbench.store.compact import collect, compact, garbage
from normbench.store.leases import Leases
from normbench.store.merge import export, merge
from normbench.store.store import Store, StoreError, shard_name
from normbench.store.verify import verify
from normbench.store.weights import PROBLEM, WeightsError, confirmed, file_of, named_by
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from typer.testing import CliRunner

from tests.conftest import MakeTrial, make_plain
from tests.store.samples import contents


def ran(trial: Trial, data_dir: Path, store: Store, **place: str) -> Outcome:
    """Run a trial whose weights are kept, and store its row."""
    source = data.locate(trial.data, data_dir, download=False)
    assert source is not None
    content = data.fingerprint(source)
    place = {"root": str(store.root), "suite": "s"} | place
    outcome = run(trial, Context(data_dir=str(data_dir), fingerprint=content, weights=place), lambda _: None)
    assert outcome.status is Status.OK, outcome.log
    store.write("s", trial, identity(trial, content).to_dict(), outcome)
    return outcome


@pytest.fixture(scope="module")
def example(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trial, Outcome]:
    """A folder of results with one trial and its weights."""
    root = tmp_path_factory.mktemp("kept")
    trial = make_plain()
    return root, trial, ran(trial, data_dir, Store(root))


@pytest.fixture
def there(example: tuple[Path, Trial, Outcome], tmp_path: Path) -> tuple[Store, Trial]:
    """A copy of it."""
    shutil.copytree(example[0], tmp_path / "results")
    return Store(tmp_path / "results"), example[1]


def right(model: torch.nn.Module, trial: Trial, data_dir: Path) -> bytes:
    """A bit for each test image, found without anything of the laboratory that decides numbers."""
    source = data.locate(trial.data, data_dir, download=False)
    test = data.load(trial.data, source).test
    assert test is not None
    pixels = torch.from_numpy(test.images.transpose(0, 3, 1, 2).copy()).float() / 255
    with torch.no_grad():
        found = model(pixels).argmax(1) == torch.tensor(test.labels)
    return np.packbits(found.numpy()).tobytes()


@pytest.mark.parametrize("norm", ["bn", "ws+gn", "wn", "bw-zca", "skipinit", "bn+noise"])
def test_a_loaded_network_gives_the_stored_accuracy_image_by_image(norm: str, data_dir: Path, tmp_path: Path) -> None:
    trial, store = make_plain(norm, seed=3), Store(tmp_path)
    outcome = ran(trial, data_dir, store)
    before = torch.get_rng_state()
    with warnings.catch_warnings(action="error"):
        model = load(trial.trial_id[:6], results=tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    assert right(model, trial, data_dir) == outcome.clean_outcomes
    assert verify(store) == (1, [])


def test_what_is_kept_is_no_part_of_a_trial(example: tuple[Path, Trial, Outcome], data_dir: Path) -> None:
    _, trial, outcome = example
    source = data.locate(trial.data, data_dir, download=False)
    assert source is not None
    without = run(trial, Context(data_dir=str(data_dir), fingerprint=data.fingerprint(source)), lambda _: None)
    assert without.clean_outcomes == outcome.clean_outcomes
    assert without.curves == outcome.curves
    assert set(outcome.provenance) - set(without.provenance) == {"weights"}


def damage(store: Store, trial: Trial, change: Callable[[bytes], bytes]) -> None:
    path = Path(store.root, file_of("s", trial.trial_id))
    path.write_bytes(change(path.read_bytes()))


def _other(content: bytes) -> bytes:
    """A whole file with other weights of the same kinds."""
    tensors = from_safetensors(content)
    length = int.from_bytes(content[:8], "little")
    return to_safetensors({k: v + 1 for k, v in tensors.items()}, json.loads(content[8 : 8 + length])["__metadata__"])


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c[:-1],
        lambda c: c[:100] + bytes([c[100] ^ 1]) + c[101:],
        _other,
        lambda c: b"",
        lambda c: b"\x80\x04N.",
    ],
    ids=["cut", "a bit", "another network", "empty", "a pickle"],
)
def test_a_file_that_its_row_does_not_name_is_refused(change: Any, there: tuple[Store, Trial]) -> None:
    store, trial = there
    damage(store, trial, change)
    with pytest.raises(WeightsError, match=r"is damaged, or of another run: its .* bytes are not those"):
        load(trial.trial_id, results=store.root)
    good, findings = verify(store)
    assert (good, [Path(f.path).name for f in findings]) == (1, [f"{trial.trial_id}.safetensors"])


def rename(store: Store, trial: Trial, outcome: Outcome, content: bytes) -> None:
    """Put a file of weights there whose row names it: as whoever can write rows may."""
    named = weights.put(str(store.root), "s", trial.trial_id, content)
    facts = outcome.provenance | {"weights": named.model_dump()}
    store.write("s", trial, identity(trial, "f" * 64).to_dict(), outcome.model_copy(update={"provenance": facts}))


def _facts(content: bytes, **changed: object) -> bytes:
    length = int.from_bytes(content[:8], "little")
    facts = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["normbench"])
    return to_safetensors(from_safetensors(content), {"normbench": json.dumps(facts | changed)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: b"\x80\x04N.", "holds no weights of this version"),
        (lambda c: b"\xff" * 8 + c[8:], "holds no weights of this version"),
        (lambda c: to_safetensors({"a": torch.ones(1)}), "holds no weights of this version"),
        (lambda c: _facts(c, format=2), "holds no weights of this version"),
        (lambda c: _facts(c, channels=10**9), "holds no weights of this version"),
        (lambda c: _facts(c, trial_id="0" * 16), "holds the weights of trial 0000000000000000"),
        (lambda c: _facts(c, classes=["a", "b"]), "does not fit the network of trial .*: network.fc.bias, network.fc"),
    ],
    ids=["a pickle", "a header without end", "without facts", "a later format", "absurd", "a trial", "classes"],
)
def test_a_file_that_holds_something_else_is_one_message(
    change: Any, message: str, there: tuple[Store, Trial], example: tuple[Path, Trial, Outcome]
) -> None:
    store, trial = there
    rename(store, trial, example[2], change(Path(store.root, file_of("s", trial.trial_id)).read_bytes()))
    with pytest.raises(WeightsError, match=message):
        load(trial.trial_id, results=store.root)


def test_why_there_are_none_is_said(
    there: tuple[Store, Trial], example: tuple[Path, Trial, Outcome], data_dir: Path, tmp_path: Path
) -> None:
    store, trial = there
    outcome = example[2].model_copy(update={"provenance": {}})

    def said(trial: Trial = trial, **changed: Any) -> str:
        store.write("s", trial, identity(trial, "f" * 64).to_dict(), outcome.model_copy(update=changed))
        with pytest.raises(WeightsError) as refused:
            load(trial.trial_id, results=store.root)
        return str(refused.value)

    assert said().endswith("without keeping its weights: run its suite again with `keep_weights` and `retry`")
    assert "ended as diverged (no luck)" in said(status=Status.DIVERGED, reason="no luck")
    assert "could not be kept: disk full" in said(provenance={PROBLEM: "its weights could not be kept: disk full"})
    assert "a candidate of tuning" in said(trial.model_copy(update={"stage": "tuning"}))
    missing = {"weights": {"sha256": "0" * 64, "size": 5}}
    Path(store.root, file_of("s", trial.trial_id)).unlink()
    assert "is not there: exports leave weights out" in said(provenance=missing)
    for text, message in (("0" * 16, "no trial whose id begins"), ("../x", "is no id of a trial"), ("", "is no id")):
        with pytest.raises(StoreError, match=message):
            load(text, results=store.root)
    with pytest.raises(StoreError, match=r"may be each of 2 trials, .* of s: give more digits"):
        load(_shared(store), results=store.root)
    with pytest.raises(StoreError, match="there are s"):
        load(trial.trial_id, results=store.root, suite="t")
    with pytest.raises(StoreError, match="there is no such folder"):
        load(trial.trial_id, results=tmp_path / "nowhere")


def _shared(store: Store) -> str:
    """The beginning that two ids share. One more row is made so that there is one of one digit."""
    seed = 1
    while True:
        new = make_plain(seed=seed)
        first = [r["trial_id"] for r in store.rows(["s"], ["trial_id"]) if r["trial_id"][0] == new.trial_id[0]]
        if len(first) == 1 and first[0] != new.trial_id:
            outcome = Outcome(status=Status.ERROR, reason="none")
            store.write("s", new, identity(new, "f" * 64).to_dict(), outcome)
            return new.trial_id[0]
        seed += 1


def test_other_code_or_libraries_are_a_warning(
    there: tuple[Store, Trial], example: tuple[Path, Trial, Outcome], data_dir: Path
) -> None:
    store, trial = there
    parts = identity(trial, "f" * 64).parts()
    store.write("s", trial, parts | {"versions": parts["versions"] | {"torch": "1.0"}}, example[2])
    with pytest.warns(UserWarning, match=r"trained otherwise: torch: version changed \(1.0 -> "):
        load(trial.trial_id, results=store.root)


def test_a_place_that_cannot_be_written_to_does_not_cost_the_trial(data_dir: Path, tmp_path: Path) -> None:
    store = Store(tmp_path)
    outcome = ran(make_plain(), data_dir, store, root=str(tmp_path / "elsewhere"))
    assert "is not on this machine" in outcome.provenance[PROBLEM]
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "s" / "weights").write_text("a file in the folder's place")
    outcome = ran(make_plain(), data_dir, store)
    assert "could not be kept" in outcome.provenance[PROBLEM]
    assert outcome.clean_correct


def test_weights_that_a_node_wrote_elsewhere_are_not_claimed(
    there: tuple[Store, Trial], example: tuple[Path, Trial, Outcome]
) -> None:
    store, trial = there
    assert confirmed(store, "s", trial.trial_id, example[2]) is example[2]
    Path(store.root, file_of("s", trial.trial_id)).unlink()
    lost = confirmed(store, "s", trial.trial_id, example[2])
    assert named_by(lost.provenance) is None
    assert "nodes must share the folder" in lost.provenance[PROBLEM]


def test_upkeep_knows_them(there: tuple[Store, Trial], tmp_path: Path, data_dir: Path) -> None:
    store, trial = there
    file = file_of("s", trial.trial_id)
    compact(store, "s")
    assert weights.kept(store, "s") == {trial.trial_id}
    assert garbage(store) == []
    assert load(trial.trial_id, results=store.root) is not None

    target = Store(tmp_path / "target")
    merge(store, target)
    assert target.files.read(file) == store.files.read(file)
    exported = Store(tmp_path / "exported")
    export(store, exported)
    assert exported.entries("s/weights") == []
    assert verify(exported) == (1, [])

    orphan = f"s/weights/{'0' * 16}.safetensors"
    store.files.write(orphan, b"of a trial that was killed")
    with Leases(store.files, "s", "bench run") as leases:
        leases.take(["0" * 16])
        assert garbage(store) == []  # its row is still to come
    assert [g.name for g in garbage(store)] == [orphan]
    store.files.write(shard_name("s", "1" * 16), b"a row that cannot be read, which may name one")
    assert garbage(Store(store.root)) == []
    store.drop(shard_name("s", "1" * 16))
    collect(store, garbage(store, unplanned=("s", [])))
    assert store.entries("s/weights") == []
    assert store.shards("s") == []


def test_a_plan_says_which_trials_have_none(there: tuple[Store, Trial], data_dir: Path, make_trial: MakeTrial) -> None:
    store, trial = there

    def states(**options: bool) -> list[tuple[str, bool]]:
        made = plan.make("s", [trial], store, data_dir, **options)
        return [(i.state.value, i.without_weights) for i in made.items]

    assert states(keep_weights=True, retry=True) == [("cached", False)]
    Path(store.root, file_of("s", trial.trial_id)).unlink()
    assert states() == states(retry=True) == [("cached", False)]
    assert states(keep_weights=True) == [("cached", True)]
    assert states(keep_weights=True, retry=True) == [("missing", False)]


def test_their_size_is_known_before(example: tuple[Path, Trial, Outcome]) -> None:
    root, trial, _ = example
    written = Path(root, file_of("s", trial.trial_id)).stat().st_size
    assert size_of(trial, channels=1, image_size=16, classes=3) == pytest.approx(written, rel=0.1)


def test_the_page_loads_a_network(there: tuple[Store, Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    root = checkout()
    assert root is not None
    (snippet,) = re.findall(r"```python\n(.*?)```", (root / "docs" / "weights.md").read_text(), re.DOTALL)
    store, trial = there
    monkeypatch.setenv("BENCH_RESULTS", str(store.root))
    names: dict[str, Any] = {"images": torch.rand(2, 1, 16, 16)}
    exec(re.sub(r'load\("\w+"\)', f'load("{trial.trial_id}")', snippet), names)
    assert names["logits"].shape == (2, 3)


def test_whatever_the_command_removes_goes_with_its_weights(
    there: tuple[Store, Trial], example: tuple[Path, Trial, Outcome]
) -> None:
    store, trial = there
    other = make_plain("gn")
    store.write("s", other, identity(other, "f" * 64).to_dict(), example[2])
    compact(store, "s")
    store.write("s", trial, identity(trial, "f" * 64).to_dict(), example[2])  # a row in each of two files

    def rm(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["results", "rm", *arguments, "--results", str(store.root)])
        assert done.exit_code == 0, done.output
        return done.output

    before = contents(Path(store.root))
    assert rm("--only", "norm=bn").splitlines()[-1] == "1 result; --yes removes them"
    assert f"would remove s/{trial.trial_id}  bn" in rm(trial.trial_id[:8])
    assert rm("--suite", "s").splitlines()[-1] == "2 results; --yes removes them"
    assert contents(Path(store.root)) == before
    assert rm("--only", "norm=bn", "--yes").splitlines()[-1] == "1 result"
    assert [r["trial_id"] for r in store.rows()] == [other.trial_id]
    assert store.entries("s/weights") == []
