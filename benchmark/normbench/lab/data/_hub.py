"""Datasets of the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from normbench.lab.data._layouts import columns
from normbench.lab.data._parts import parts
from normbench.lab.data._source import PLAIN, DataError, Hub, Source
from normbench.spec.trial import DataSpec

#: Short names, read at the hub in 2026.
HUB = {
    "cifar10": Hub("uoft-cs/cifar10", "plain_text", "img", "label", "cifar-10-batches-py"),
    "cifar100": Hub("uoft-cs/cifar100", "cifar100", "img", "fine_label", "cifar-100-python"),
    "svhn": Hub("ufldl-stanford/svhn", "cropped_digits", "image", "label"),
}


def from_hub(name: str, hub: Hub, spec: DataSpec, splits: Sequence[str], *, download: bool) -> Source | None:
    """The files of `splits` in the hub's cache on this machine, fetched first where `download`; None where they are not
    there and may not be fetched. Raises `DataError`.
    """
    if (
        not all(PLAIN.fullmatch(part) for part in (*hub.repo.split("/"), *(hub.folder or "all").split("/")))
        or hub.repo.count("/") != 1
    ):
        raise DataError(f"dataset {name!r}: expected hub:owner/name or hub:owner/name:configuration")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    below = f"{hub.folder}/" if hub.folder else "**/"
    patterns = [f"{below}{split}-*.parquet" for split in splits] + (
        [] if hub.folder else [f"{split}-*.parquet" for split in splits]
    )
    try:
        root = Path(
            snapshot_download(hub.repo, repo_type="dataset", allow_patterns=patterns, local_files_only=not download)
        )
    except LocalEntryNotFoundError as error:
        if not download and os.environ.get("HF_HUB_OFFLINE", "0") in {"0", ""}:
            return None
        raise _unreachable(name, hub, error) from error
    except Exception as error:  # the hub's client raises errors of several HTTP libraries
        raise _unreachable(name, hub, error) from error
    files: list[tuple[Path, ...]] = []
    for split in splits:
        found = sorted(p for pattern in patterns for p in root.glob(pattern) if p.name.startswith(f"{split}-"))
        if not found:
            if not download:
                return None
            raise DataError(
                f"dataset {name!r}: {hub.repo} on the hub has no "
                f"{split}-*.parquet{f' in {hub.folder}/' if hub.folder else ''}"
            )
        try:
            files.append(parts(name, split, found, root, lambda own: f"write hub:{hub.repo}:{own}"))
        except DataError:
            if download or len({path.parent for path in found}) > 1:
                raise
            return None  # a download that was broken off left some parts
    shards = [columns(paths, spec, hub) for paths in files]
    return Source(name, shards[0], shards[1] if shards[1:] else ())


def _unreachable(name: str, hub: Hub, error: Exception) -> DataError:
    short = " ".join(str(error).split())[:160]
    folder = name if not name.startswith("hub:") else "NAME"
    return DataError(
        f"dataset {name!r} is not on this machine and could not be fetched from the hub ({hub.repo}: "
        f"{type(error).__name__}: {short}). "
        f"Either connect to the network once, or put train.parquet and test.parquet into a folder {folder!r} and "
        "point --data (or BENCH_DATA) at its parent. "
        "Without either, `bench run digits` runs on data that ships with the package"
    )
