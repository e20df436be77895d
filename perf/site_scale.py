"""How the site grows: build time, memory, size of pages, and how quickly the table of runs answers, at 1,000 to 100,000
synthetic trials.

    python perf/site_scale.py [--smoke] [--json]

`processor` is the build's own time on the processor, which other work on the machine changes little; `unchanged` is
what a second build takes that finds nothing to do.

The peer of each figure is the limit that the project set itself; a ratio above 1 is within it. `growth` compares
seconds a trial at the largest and the smallest size: above 1 is better than linear. Builds run in a process of their
own, so that peak memory is theirs alone.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import pyarrow as pa
from normbench.cli.site import current
from normbench.spec.trial import Trial
from normbench.store.schema import SCHEMA, of_trial, to_json, to_row
from normbench.store.store import Store, compact_name, to_bytes

from tests.site import synthetic

SIZES = (1_000, 10_000, 100_000)
SMOKE = (40, 80)
#: Case -> limit and unit, at the largest size.
LIMITS = {
    "build": (60.0, "s"),
    "processor": (60.0, "s"),
    "memory": (2000.0, "MB"),
    "unchanged": (3.0, "s"),
    "first page, gzipped": (150.0, "kB"),
    "runs.html interactive": (1500.0, "ms"),
    "runs.html sort": (150.0, "ms"),
    "runs.html filter": (150.0, "ms"),
}
DATASETS = ("digits", "cifar10", "cifar100", "svhn")
MODELS = ("resnet18", "resnet50", "vgg11", "densenet121", "mobilenetv2_100")
BATCHES = (8, 16, 32, 64, 128, 256)
WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
NORMS = (*synthetic.QUALITY, "dyt", "rms", "frn", "gw", "bw-zca")
SEEDS = 6
#: Rows a file: results that were compacted, as a hundred thousand files would be.
ROWS = 5_000


def rows(count: int) -> Iterator[dict[str, Any]]:
    """`count` rows: a few hundred synthetic outcomes, under as many specifications as needed."""
    templates = {
        (norm, wd, seed): synthetic.outcome(synthetic.trial(norm, seed, weight_decay=wd), layers=1)
        for norm, wd, seed in itertools.product(NORMS, (0.0, 5e-4), range(SEEDS))
    }
    grid = itertools.product(DATASETS, MODELS, BATCHES, WIDTHS, NORMS, (0.0, 5e-4), range(SEEDS))
    cache: dict[tuple[str, float, int], dict[str, Any]] = {}
    for dataset, model, batch, width, norm, wd, seed in itertools.islice(grid, count):
        if (norm, wd, seed) not in cache:
            trial = synthetic.trial(norm, seed, weight_decay=wd)
            cache[norm, wd, seed] = to_row("scale", trial, synthetic.identity(trial), templates[norm, wd, seed])
        row = cache[norm, wd, seed]
        spec = json.loads(row["spec"])
        spec["data"]["dataset"], spec["model"]["name"], spec["model"]["width"], spec["batch_size"] = (
            dataset,
            model,
            width,
            batch,
        )
        named = {"dataset": dataset, "model": model, "width": width, "batch_size": batch}
        # The columns that name trial, entry and board: each must be that of this specification.
        yield row | named | of_trial(Trial.model_validate(spec)) | {"spec": to_json(spec)}


def fill(root: Path, count: int) -> None:
    (root / "scale").mkdir(parents=True)
    source = rows(count)
    while part := sorted(itertools.islice(source, ROWS), key=lambda r: r["trial_id"]):
        content = to_bytes(pa.Table.from_pylist(part, schema=SCHEMA))
        (root / "scale" / compact_name(content)).write_bytes(content)


def built(results: str, out: str, pipe: Any) -> None:
    """In a process of its own: one build, then a second call of the command that finds nothing to do."""
    start, busy = time.perf_counter(), processor()
    _, fresh = current(Store(Path(results)), Path(out))
    assert not fresh
    made, used = time.perf_counter() - start, processor() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    _, fresh = current(Store(Path(results)), Path(out))
    assert fresh, "an unchanged folder was built again"
    pipe.send({"build": made, "processor": used, "memory": peak, "unchanged": time.perf_counter() - start})


def processor() -> float:
    """Seconds of the processor that this process and those it waited for have used."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(s.ru_utime + s.ru_stime for s in spent)


def interactive(site: Path) -> dict[str, float]:
    """Milliseconds in a headless Chromium, or nothing where there is none."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("no chromium: the table of runs is not timed", file=sys.stderr)
        return {}
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        page = browser.new_page()
        start = time.perf_counter()
        page.goto((site / "runs.html").as_uri())
        page.wait_for_selector("#pager:visible")
        ready = 1000 * (time.perf_counter() - start)
        clock = (
            "(act) => { const t = performance.now(); act(); document.body.offsetHeight; return performance.now() - t; }"
        )
        sort = page.evaluate(f"({clock})(() => document.querySelector('button[data-sort=clean]').click())")
        filtered = page.evaluate(
            f"""({clock})(() => {{
                const box = document.querySelector('#search'); box.value = 'gn'; box.dispatchEvent(new Event('input'));
            }})"""
        )
        browser.close()
    return {"runs.html interactive": ready, "runs.html sort": sort, "runs.html filter": filtered}


def measure(count: int) -> dict[str, float]:
    """All figures at one size."""
    with tempfile.TemporaryDirectory() as folder:
        results, site = Path(folder, "results"), Path(folder, "site")
        fill(results, count)
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(target=built, args=(str(results), str(site), theirs))
        process.start()
        theirs.close()
        figures = ours.recv()
        process.join()
        first = sum(
            len(gzip.compress((site / name).read_bytes(), 6))
            for name in ("index.html", "assets/style.css", "assets/theme.js")
        )
        pages = sum(1 for _ in site.rglob("*.html"))
        return {
            **figures,
            "first page, gzipped": first / 1000,
            **interactive(site),
            "pages": pages,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="a few hundred trials, to see that it runs")
    parser.add_argument("--json", action="store_true", help="one JSON object a case")
    parser.add_argument(
        "--sizes",
        type=lambda text: tuple(int(v) for v in text.split(",")),
        help="numbers of trials, ascending, separated by commas",
    )
    arguments = parser.parse_args()
    sizes = arguments.sizes or (SMOKE if arguments.smoke else SIZES)
    table = {size: measure(size) for size in sizes}
    largest, smallest = sizes[-1], sizes[0]
    cases = [
        {
            "case": f"site_scale/{name}, {largest} trials",
            "ours": round(table[largest][name], 3),
            "peer": limit,
            "unit": unit,
            "ratio": round(limit / table[largest][name], 3),
        }
        for name, (limit, unit) in LIMITS.items()
        if name in table[largest]
    ]
    rate = {size: 1e3 * table[size]["build"] / size for size in sizes}
    if largest > smallest:
        cases.append(
            {
                "case": f"site_scale/growth, {smallest} to {largest} trials",
                "ours": round(rate[largest], 4),
                "peer": round(rate[smallest], 4),
                "unit": "ms a trial",
                "ratio": round(rate[smallest] / rate[largest], 3),
            }
        )
    if arguments.json:
        for case in cases:
            print(json.dumps(case))
        return
    names = list(table[largest])
    print("| trials | " + " | ".join(f"{n}, {LIMITS[n][1]}" if n in LIMITS else n for n in names) + " | ms a trial |")
    print("| ---: " * (len(names) + 2) + "|")
    for size in sizes:
        print(
            f"| {size:,} | "
            + " | ".join(f"{table[size].get(n, float('nan')):,.1f}" for n in names)
            + f" | {rate[size]:.2f} |"
        )
    for case in cases:
        print(f"{case['case']}: {case['ours']} {case['unit']} (limit {case['peer']}), ratio {case['ratio']}")


if __name__ == "__main__":
    main()
