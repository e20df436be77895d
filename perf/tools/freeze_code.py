"""Writes `store/before_3.json`: under which digests the code of schema 2 was known, and the same code now.

    python perf/tools/freeze_code.py OLD [PYTHON ...]

OLD: a checkout of the last version of schema 2 (commit 15daee6), whose digests are computed by its own function, under
each interpreter named (they differ between 3.11 and 3.12). To be run once, before anything that decides numbers changes
in this checkout; afterwards the file stays as it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parents[2] / "benchmark" / "normbench" / "store" / "before_3.json"
#: Digests by the old function, which its module gives without the libraries that it imports.
THEN = """
import ast, hashlib, json, pathlib, re, sys
root = pathlib.Path(sys.argv[1])
source = (root / "benchmark" / "identity.py").read_text()
names = {"ast": ast, "_PROSE": {"summary", "source", "claims", "equation", "family", "cost"}}
for part in ("_without_prose", "_is_prose"):
    exec(re.search(rf"^def {part}.*?(?=^def |\\Z)", source, re.S | re.M)[0], names)
found = {}
for path in sorted((root / "benchmark").rglob("*.py")):
    name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
    tree = names["_without_prose"](ast.parse(path.read_bytes()))
    found[name] = hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]
print(json.dumps(found))
"""


def main() -> None:
    from normbench.plan.digests import closure, source_digest

    old, *interpreters = sys.argv[1:]
    then: dict[str, list[str]] = {}
    for interpreter in interpreters or [sys.executable]:
        told = subprocess.run([interpreter, "-c", THEN, old], capture_output=True, text=True, check=True).stdout
        for name, digest in json.loads(told).items():
            if digest not in then.setdefault(name, []):
                then[name].append(digest)
    kinds = ("norms", "attacks", "measures", "lab.network.families")
    package = TARGET.parents[1]
    modules = frozenset(
        f"normbench.{kind}.{path.stem}" for kind in kinds for path in (package / kind.replace(".", "/")).glob("*.py")
    ) | {"normbench.lab.network.construct", "normbench.lab.network.family"}
    modules = frozenset(m for m in modules if not m.endswith("__init__"))
    prefixes = tuple(f"benchmark.{kind}" for kind in ("norms", "attacks", "measures"))
    found = {
        "then": {name: digests for name, digests in sorted(then.items()) if name.startswith(prefixes)},
        "now": {name: source_digest(name) for name in sorted(closure(modules))},
    }
    TARGET.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(f"{TARGET}: {len(found['then'])} modules then, {len(found['now'])} now")


if __name__ == "__main__":
    main()
