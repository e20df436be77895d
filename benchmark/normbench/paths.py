"""Where the files that belong to the project lie: beside the package in a checkout, inside it in an installed wheel."""

from __future__ import annotations

import math
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from normbench.errors import BenchError

_PACKAGE = Path(__file__).resolve().parent


def checkout() -> Path | None:
    """The root of the checkout that this package is imported from, or None when it is an installed wheel."""
    root = _PACKAGE.parents[1]
    return root if (root / "pyproject.toml").is_file() and (root / "suites").is_dir() else None


def shipped(*parts: str) -> Path:
    """A file or folder that ships with the package, e.g. `shipped("suites", "digits.yaml")`."""
    return (checkout() or _PACKAGE / "_shipped").joinpath(*parts)


def default_results() -> Path | str:
    """`BENCH_RESULTS` (a folder or an address such as `s3://bucket/prefix`), else `results/` of the checkout, else
    `results/` in the working directory.
    """
    if chosen := os.environ.get("BENCH_RESULTS"):
        return chosen
    return (checkout() or Path.cwd()) / "results"


def default_site() -> Path:
    """Where `bench site` builds: `site/build` of the checkout, else in the working directory."""
    return (checkout() or Path.cwd()) / "site" / "build"


def cache_dir() -> Path:
    """Decoded datasets: `BENCH_CACHE`, else `normbench` under `XDG_CACHE_HOME` or `~/.cache`.

    Raises `BenchError` where no such folder is named.
    """
    if chosen := os.environ.get("BENCH_CACHE"):
        return Path(chosen).absolute()
    if (base := Path(os.environ.get("XDG_CACHE_HOME", ""))).is_absolute():  # by its standard, another one is ignored
        return base / "normbench"
    with suppress(RuntimeError):
        if (home := Path.home()).is_absolute():
            return home / ".cache" / "normbench"
    raise BenchError("there is no home folder (HOME) for the cache of decoded datasets: set BENCH_CACHE")


def data_dir(chosen: Path | None) -> Path | None:
    """The folder of datasets that was chosen by `--data`, or that of `BENCH_DATA`, if any. Raises `BenchError` where
    there is no such folder.
    """
    told = os.environ.get("BENCH_DATA")
    folder = chosen or (Path(told) if told else None)
    if folder is not None and not is_folder(folder):
        raise BenchError(f"{'--data ' if chosen else 'BENCH_DATA='}{folder}: there is no such folder")
    return folder.absolute() if folder else None


def is_folder(path: Path) -> bool:
    """Whether this is a folder that can be looked into, also where the name is too long or the way there closed."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def temporary_dir() -> Path:
    """Where temporary files go: `TMPDIR`, else the system's folder. Raises `BenchError` where `TMPDIR` names no folder
    (Python would take another without a word), and where there is no folder that can be written to.
    """
    told = os.environ.get("TMPDIR")
    if told and not is_folder(Path(told)):
        raise BenchError(f"TMPDIR={told}: there is no such folder for temporary files")
    try:
        chosen = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise BenchError("no folder for temporary files can be written to: set TMPDIR") from error
    if told and chosen != Path(told).absolute():
        raise BenchError(f"TMPDIR={told}: no temporary file can be written there")
    return chosen


def seconds(name: str, default: float) -> float:
    """The seconds that an environment variable says. Raises `BenchError` for what is no number from 0 on."""
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise BenchError(f"{name}={text[:60]!r}: expected seconds, a number from 0 on")
    return value


def checkpoint_path(folder: str | None, trial_id: str) -> Path | None:
    """Where a trial's checkpoint lies: in `folder` where this machine has it (the driver's machine, or shared storage),
    else in this machine's cache.
    """
    if folder is None:
        return None
    return (Path(folder) if Path(folder).is_dir() else cache_dir() / "checkpoints") / f"{trial_id}.safetensors"
