"""What methods cost, a file a machine: `cost/<device>.json` in the results folder."""

from __future__ import annotations

import re

from pydantic import ValidationError

from normbench.spec.cost import Costs
from normbench.store.reading import StoreError, told
from normbench.store.store import Store

FOLDER = "cost"


def name_of(costs: Costs) -> str:
    """The file of a machine, relative to the results folder: by device, version of torch, and threads."""
    threads = costs.machine.get("threads")
    text = f"{costs.device} torch {costs.machine.get('torch')} {threads if costs.machine.get('cpu') else ''}"
    return f"{FOLDER}/{re.sub(r'[^a-z0-9.]+', '-', text.lower()).strip('-')[:100]}.json"


def read(store: Store, name: str) -> Costs | None:
    """What a file holds; None where there is none. Raises `StoreError` where it holds something else."""
    try:
        return Costs.model_validate_json(store.files.read(name))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise StoreError(
            f"{store.files.where(name)}: it is no file of costs ({place or 'the file'}: {first['msg'][:150]}); remove "
            "it, and `bench cost` measures anew"
        ) from None
    except OSError as error:
        raise StoreError(f"{store.files.where(name)}: {told(error)}") from None


def read_all(store: Store) -> list[Costs]:
    """Of every machine, by file. A file that cannot be read is named in `store.problems`."""
    found = []
    for entry in store.entries(FOLDER):
        if entry.name.endswith(".json") and not entry.name.startswith("."):
            try:
                if costs := read(store, f"{FOLDER}/{entry.name}"):
                    found.append(costs)
            except StoreError as error:
                store.problems[store.files.where(f"{FOLDER}/{entry.name}")] = str(error)
    return found


def keep(store: Store, costs: Costs) -> str:
    """Write the file of a machine in one step, and return where it is. Raises `StoreError`."""
    name = name_of(costs)
    try:
        store.files.write(name, f"{costs.model_dump_json(indent=1)}\n".encode())
    except OSError as error:
        raise StoreError(f"cannot write {store.files.where(name)}: {error.strerror or error}") from error
    return store.files.where(name)
