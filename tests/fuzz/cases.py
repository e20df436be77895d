"""Cases of broken input, each made from its number alone: files in a folder, and the commands that meet them."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from normbench.paths import shipped
from normbench.store.schema import SCHEMA
from normbench.store.store import Store
from PIL import Image

from tests.store import hostile

Row = dict[str, Any]
#: Shards that a case of them holds.
SHARDS = 20
SUITE = """
suite: s
data: {dataset: stripes, image_size: 16}
models: [{name: resnet18, kwargs: {layers: [1, 1, 1, 1]}}]
norms: [bn]
batch_sizes: [4]
widths: [0.125]
seeds: 2
train: {epochs: 1, lr: 0.05}
"""

# Suites ---------------------------------------------------------------------------------------------------------------

_WORDS = (
    *("0", "-1", "1e999", ".nan", "2.5", "true", "null", "~", "''", "[]", "{}", "[[]]", "{a: b}", "1000000000"),
    *("9" * 400, "gn[groups=7]", "gn[groups=-1]", "gn[", "ws+ws", "+", "bn+noise+noise", "hub:a/b", "../x"),
    *("/dev/zero", "wrn-28-10", "&a [*a]", "*b", "!!python/object:os.system x", "<<", "? x", "|\n  x"),
    *("'\\x1b[2J'", '"\\ud800"', "é\u202e", "[/x]", "resnet18", "digits", "cifar10"),
    *("bim: {eps: [8/255, 1/0]}", "{lr: [0.1, 0.2]}", "- - - -", ": :", "1/255", "\t"),
)


def _suites(good: tuple[Row, ...], draw: random.Random, place: Path) -> list[list[str]]:
    base = draw.choice(sorted(shipped("suites").glob("*.yaml")))
    lines = base.read_text(encoding="utf-8").splitlines()
    for _ in range(draw.randint(1, 5)):
        i = draw.randrange(len(lines)) if lines else 0
        line = lines[i] if lines else ""
        word = draw.choice(_WORDS)
        match draw.randrange(9):
            case 0:
                lines[i : i + 1] = []
            case 1:
                lines.insert(i, line)
            case 2:
                lines.insert(i, draw.choice(lines or [""]))
            case 3:
                lines[i : i + 1] = [f"{line.partition(':')[0]}: {word}"]
            case 4:
                lines[i : i + 1] = [" " * draw.randrange(6) + line.strip()]
            case 5:
                cut = draw.randrange(len(line) + 1)
                lines[i : i + 1] = [line[:cut] + word + line[cut:]]
            case 6:
                lines[i : i + 1] = [line.replace(draw.choice(line or " "), draw.choice("[]{},:#&*!|>'\"%@`\0\x1bé"), 1)]
            case 7:
                lines[i : i + 1] = [line.replace(part, word, 1) for part in [draw.choice(line.split() or [" "])]]
            case _:
                lines = lines[: draw.randrange(len(lines) + 1)]
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    if draw.random() < 0.1 and content:
        at = draw.randrange(len(content))
        content = content[:at] + draw.randbytes(draw.randint(1, 20)) + content[at:]
    (place / "s.yaml").write_bytes(content)
    return [["plan", "s.yaml", "--results", "r"]]


# Results --------------------------------------------------------------------------------------------------------------

_VALUES: tuple[Any, ...] = (
    *(None, 0, -1, 1, 2**31, 2**53, hostile.HUGE, -hostile.HUGE, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "x", "[bold]x[/bold]", "[/x]", "\x1b[2J", "\u202e", "</script><script>alert(1)</script>"),
    *("{{ 7*7 }}", "é" * 5000, "{}", "[]", "null", "{", hostile.DEEP, hostile.NO_UTF8, b"", b"\xff" * 9, True),
    *([], [None], "=cmd|x", "\\input{x}"),
)


def _shards(good: tuple[Row, ...], draw: random.Random, place: Path) -> list[list[str]]:
    store = Store(place / "r")
    for i, row in enumerate(good):
        store.put(f"s/{row['trial_id']}.parquet", hostile.content(row))
        for j in range(i * SHARDS // 2, (i + 1) * SHARDS // 2):
            trial_id = f"{draw.getrandbits(64):016x}"
            store.put(f"s/{trial_id}.parquet", _spoilt(row | {"trial_id": trial_id}, draw, keeps=j % 4 == 0))
    (place / "s.yaml").write_text(SUITE, encoding="utf-8")
    named = ["--results", "r"]
    commands = [
        *(["plan", "s.yaml", *named], ["status", "s.yaml", "--why", *named], ["board", "s.yaml", *named]),
        *(["board", "s.yaml", "--json", *named], ["results", "verify", *named], ["results", "export", "e", *named]),
        *(["table", "s.yaml", *named], ["compare", "bn", "gn", *named], ["claims", *named], ["published", *named]),
        *(["results", "rm", "--suite", "s", *named], ["results", "release", "1", *named]),
        *(["results", "merge", "r", "m"], ["results", "migrate", "m"], ["results", "gc", "--broken", *named]),
        *(["results", "check", *named], ["site", "--out", "site", *named], ["results", "compact", *named]),
        *(["results", "verify", *named], ["board", "s.yaml", *named]),
    ]
    # Building a site takes seconds, and checking loads torch.
    left_out = {name for name, share in (("site", 0.1), ("check", 0.03)) if draw.random() > share}
    return [c for c in commands if not left_out & {*c[:2]}]


def _spoilt(row: dict[str, Any], draw: random.Random, *, keeps: bool) -> bytes:
    """A sealed shard of a row in which some columns hold something else; or, `keeps`, values that the rules let
    through and nobody wrote.
    """
    for _ in range(20):
        changed = dict(row)
        if not keeps and draw.random() < 0.5:
            changed = draw.choice(hostile.ODD)[1](changed)
        else:
            for name in draw.sample([n for n in SCHEMA.names if n not in {"suite", "trial_id"}], draw.randint(1, 4)):
                changed[name] = draw.choice(_VALUES)
        try:
            return hostile.content(changed | {"trial_id": row["trial_id"]})
        except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError):
            continue  # a value that the column's kind cannot hold
    return hostile.content(row)


# Datasets -------------------------------------------------------------------------------------------------------------


def _datasets(good: tuple[Row, ...], draw: random.Random, place: Path) -> list[list[str]]:
    folder = place / "images"
    folder.mkdir()
    for split in ("train", "test"):
        content = _split(draw)
        for _ in range(draw.choice((0, 0, 1, 3))):
            at = draw.randrange(len(content))
            content = content[:at] + draw.randbytes(draw.choice((1, 1, 8))) + content[at + draw.choice((0, 1, 8)) :]
        name = draw.choice(
            (f"{split}.parquet",) * 6 + (f"{split}-00000-of-00002.parquet", f"{split}.parquet.gz", "x.parquet")
        )
        (folder / name).write_bytes(content[: draw.randrange(len(content))] if draw.random() < 0.05 else content)
    (place / "s.yaml").write_text(SUITE.replace("stripes, image_size: 16", "./images"), encoding="utf-8")
    return [
        *(["plan", "s.yaml", "--results", "r"], ["decode", "./images"], ["data", "show", "./images"]),
        ["data", "import", "./images", "whole"],
    ]


def _image(draw: random.Random, side: int, mode: str, form: str) -> bytes:
    pixels = np.frombuffer(draw.randbytes(side * side * 3), np.uint8).reshape(side, side, 3)
    made = io.BytesIO()
    try:
        Image.fromarray(pixels).convert(mode).save(made, form)
    except (OSError, ValueError):
        Image.fromarray(pixels).save(made, "PNG")
    return made.getvalue()


def _split(draw: random.Random) -> bytes:
    count = draw.choice((0, 1, 12, 12, 12))
    side, mode, form = (
        draw.choice((1, 8, 8, 16)),
        draw.choice(("RGB", "L", "RGB", "P", "1", "CMYK", "I;16", "F", "RGBA", "LA")),
        (draw.choice(("PNG", "PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "EPS", "ICO"))),
    )
    blobs: list[Any] = []
    for _ in range(count):
        blob: Any = _image(draw, side if draw.random() < 0.95 else draw.randint(1, 30), mode, form)
        if draw.random() < 0.05:
            blob = draw.choice((None, b"", b"x", blob[: len(blob) // 2], blob[:20] + draw.randbytes(8) + blob[28:]))
        blobs.append(blob)
    labels = [draw.choice((0, 1, 2)) for _ in range(count)]
    if draw.random() < 0.3 and labels:
        labels[draw.randrange(count)] = draw.choice((-1, 10**7, 2**62, 3, 255))
    kind = draw.choice((pa.int64(),) * 5 + (pa.int32(), pa.uint64(), pa.float64(), pa.string(), pa.bool_(), pa.int8()))
    try:
        labelled = pa.array(labels, pa.int64()).cast(kind)
    except pa.ArrowException:
        labelled = pa.array(labels, pa.int64())
    if draw.random() < 0.1 and count:
        labelled = pa.array([None, *labelled.to_pylist()[1:]], labelled.type)
    boxed = draw.choice((True, False))
    images = (
        pa.array(
            [{"bytes": b, "path": None} for b in blobs], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        )
        if boxed
        else pa.array(blobs, draw.choice((pa.binary(), pa.large_binary())))
    )
    names = draw.choice(
        (["img", "label"],) * 5 + (["image", "fine_label"], ["a", "b"], ["label", "img"], ["label", "label"])
    )
    table = pa.Table.from_arrays([images, labelled], names=names)
    if draw.random() < 0.3:
        told = draw.choice(
            ('{"info": {"features": {"label": {"names": ["a"], "_type": "ClassLabel"}}}}', "{", "[]", "\0", "{}")
        )
        table = table.replace_schema_metadata({"huggingface": told})
    made = io.BytesIO()
    pq.write_table(table, made)
    return made.getvalue()


# Argument lists -------------------------------------------------------------------------------------------------------

_COMMANDS = (
    *(["plan"], ["plan"], ["status"], ["board"], ["board"], ["site"], ["schema"], ["norms"], ["attacks"]),
    *(["measures"], ["rank"], ["results", "verify"], ["results", "export"], ["results", "merge"]),
    *(["results", "compact"], ["results", "migrate"], ["results", "gc"], ["results", "check"], ["new", "norm"]),
    *(["results"], [], ["nosuch"], ["check", "attack"], ["audit", "nosuch"], ["table"], ["compare"], ["claims"]),
    *(["published"], ["results", "rm"], ["results", "release"], ["data", "show"], ["data", "import"]),
)
_OPTIONS = (
    *("--results", "--data", "--only", "--json", "--retry", "--accept-versions", "--out", "--together"),
    *("--why", "--yes", "--stale", "--suite", "--norm", "--since", "--mark", "--folder", "--value", "--method"),
    *("--seed", "--board", "--help", "--broken", "--nosuch", "-x", "--", "-"),
)
_ARGUMENTS = (
    *("s.yaml", "r", "r", "digits", "nowhere", "", ".", "..", "/dev/null", "/dev/zero", "norm=gn"),
    *("seed=0", "norm=", "x" * 5000, "[/x]", "\x1b[2J", "\u202e", "\udcff", "s3://", "file:///nowhere"),
    *("nosuch://x", "~", "$HOME", "-1", "1e999", "bn", "gn[groups=7]", "gn[", "ws+gn", "table.csv"),
    *("table.parquet", "accuracy", "HEAD", "-n 3", "a=b=c", "lr=0.05", "é"),
)
TABLE = "method,seed,accuracy,board\na,0,0.5,x\na,1,0.6,x\nb,0,0.4,x\nb,1,nan,x\nc,,1e999,\n"


def _arguments(good: tuple[Row, ...], draw: random.Random, place: Path) -> list[list[str]]:
    store = Store(place / "r")
    for row in good:
        store.put(f"s/{row['trial_id']}.parquet", hostile.content(row))
    (place / "s.yaml").write_text(SUITE, encoding="utf-8")
    (place / "table.csv").write_text(TABLE, encoding="utf-8")
    (place / "table.parquet").write_bytes(draw.randbytes(200))
    command = list(draw.choice(_COMMANDS))
    # Without a place, a site and a method would be written into the checkout; results are those of BENCH_RESULTS.
    command += {("site",): ["--out", "site"], ("new", "norm"): ["--folder", "."]}.get(tuple(command), [])
    command += [draw.choice(_OPTIONS if draw.random() < 0.4 else _ARGUMENTS) for _ in range(draw.randint(0, 5))]
    return [command]


MAKERS: dict[str, Callable[[tuple[Row, ...], random.Random, Path], list[list[str]]]] = {
    "suites": _suites,
    "shards": _shards,
    "datasets": _datasets,
    "arguments": _arguments,
}
