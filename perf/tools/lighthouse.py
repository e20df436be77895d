"""Lighthouse over the built site (`tox -e lighthouse`): performance, accessibility, best practices and search engines
of the pages that visitors meet first. Needs npm and a Chromium; exits with 1 where a score is below the limit.

    python perf/tools/lighthouse.py [--site site/build] [--pages index.html ...] [--least 95]
"""

from __future__ import annotations

import argparse
import functools
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
VERSION = "13.5.0"
PAGES = ("index.html", "accuracy.html", "claims.html")
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
LEAST = 95


class Quiet(SimpleHTTPRequestHandler):
    """Files of the site, compressed as static hosts do, without a line for each request."""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def send_head(self) -> Any:
        path = Path(self.translate_path(self.path))
        if path.suffix not in {".html", ".css", ".js", ".svg", ".json"} or not path.is_file():
            return super().send_head()
        content = gzip.compress(path.read_bytes(), 6)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The address of a site while the block runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def measure(address: str, chromium: str) -> dict[str, Any]:
    """Lighthouse's report on one page."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = ["npx", "--yes", f"lighthouse@{VERSION}", address, "--quiet", "--output=json"]
        command += [f"--output-path={report}", f"--only-categories={','.join(CATEGORIES)}"]
        command += ["--chrome-flags=--headless=new --no-sandbox --disable-gpu"]
        told = {"CHROME_PATH": chromium, "npm_config_loglevel": "error"}
        subprocess.run(command, check=True, env=os.environ | told, timeout=300)
        found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return found


def amiss(report: dict[str, Any], category: str) -> list[str]:
    """Audits of a category that cost points: name and title."""
    weights = {a["id"]: a["weight"] for a in report["categories"][category]["auditRefs"]}
    audits = ((name, report["audits"][name]) for name, weight in weights.items() if weight)
    return [f"{name}: {a['title']} {a.get('displayValue', '')}" for name, a in audits if (a["score"] or 0) < 0.9]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--site", type=Path, default=ROOT / "site" / "build", help="a built site")
    parser.add_argument("--pages", nargs="+", default=PAGES, help="of the site")
    parser.add_argument("--least", type=int, default=LEAST, help="points that each category must have")
    arguments = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None or shutil.which("npx") is None:
        sys.exit("npx and a Chromium are needed")
    if missing := [p for p in arguments.pages if not (arguments.site / p).is_file()]:
        sys.exit(f"{arguments.site} has no {', '.join(missing)}: build the site with `bench site` first")
    print(f"| page | {' | '.join(CATEGORIES)} |\n| --- {'| ---: ' * len(CATEGORIES)}|")
    low = []
    with served(arguments.site) as address:
        for page in arguments.pages:
            report = measure(f"{address}/{page}", chromium)
            scores = {c: round(100 * (report["categories"][c]["score"] or 0)) for c in CATEGORIES}
            print(f"| {page} | {' | '.join(map(str, scores.values()))} |", flush=True)
            for category, score in scores.items():
                if score < arguments.least:
                    low += [f"{page}, {category} {score}: {found}" for found in amiss(report, category) or ["?"]]
    if low:
        sys.exit("\n".join(low))


if __name__ == "__main__":
    main()
