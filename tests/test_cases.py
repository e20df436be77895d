"""Inputs that once went wrong, each standing for a kind: where the test of each is."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from normbench.paths import checkout

TESTS = Path(__file__).parent

#: The case, and the tests that have its right answer.
CASES = {
    "ascii-terminal": ("test_terminal.py::test_a_poor_locale_replaces_characters",),
    "cache": (
        "lab/test_data_cache.py::test_what_is_damaged_is_decoded_again_with_a_word",
        "lab/test_data_cache.py::test_a_cache_that_cannot_be_made_is_one_message",
        "lab/test_data_cache.py::test_a_full_cache_is_one_message_and_leaves_nothing",
    ),
    "class-count": ("lab/test_data.py::test_an_equal_fingerprint_means_an_equal_number_of_classes",),
    "declared-huge": ("lab/test_pixels.py::test_a_declared_size_beyond_all_memory_is_refused",),
    "exif": ("lab/test_pixels.py::test_images_stand_as_exif_says",),
    "huge-groups": (
        "suite/test_large_numbers.py::test_case_huge_groups",
        "suite/test_large_numbers.py::test_every_whole_number_of_every_method_has_a_limit",
    ),
    "large-binary": ("lab/test_unfit_data.py::test_large_binary_is_read_as_binary",),
    "late-checks": (
        "test_foreseen.py::test_the_command_says_it",
        "test_possible.py::test_the_command_says_it",
        "lab/test_attacked.py::test_what_ended_before_and_after_a_failed_attack_stays",
    ),
    "markup": ("test_terminal.py::test_brackets_are_text",),
    "missing-shard": ("lab/test_unfit_data.py::test_files_that_are_not_one_whole_split_are_refused",),
    "mixed-grey-rgb": ("lab/test_pixels.py::test_grey_images_become_colour_where_others_are",),
    "one-broken": ("lab/test_pixels.py::test_a_broken_image_is_named_by_file_and_row",),
    "one-class": ("lab/test_unfit_data.py::test_labels_that_no_network_is_trained_on_are_refused_by_the_plan",),
    "provenance": (
        "test_cases.py::test_case_provenance",
        "test_provenance.py::test_a_copy_inside_another_repository_has_no_commit",
        "test_provenance.py::test_what_a_hook_has_told_git_does_not_matter",
    ),
    "sixteen-bit": ("lab/test_pixels.py::test_more_than_eight_bits_are_refused_by_name",),
    "sparse-labels": ("lab/test_unfit_data.py::test_labels_that_no_network_is_trained_on_are_refused_by_the_plan",),
    "text-labels": ("lab/test_unfit_data.py::test_labels_that_no_network_is_trained_on_are_refused_by_the_plan",),
    "train-test-shape": (
        "lab/test_unfit_data.py::test_two_sizes_are_refused_by_the_plan_unless_one_is_asked_for",
        "lab/test_unfit_data.py::test_grey_training_images_and_coloured_test_images_are_refused_when_they_are_decoded",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_its_test(case: str) -> None:
    for place in CASES[case]:
        file, _, name = place.partition("::")
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, place


def test_case_provenance(tmp_path: Path) -> None:
    """A copy of the sources within another repository says no commit, neither its own nor the other's; a checkout says
    its own, also where a hook has told git of another.
    """
    root = checkout()
    if root is None or not (root / ".git").exists():
        pytest.skip("needs a checkout with its repository")

    def git(folder: Path, *arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    def says(package: Path, **variables: str) -> str:
        code = "from normbench.plan.provenance import provenance; p = provenance(); print(p['commit'], p['dirty'])"
        environment = os.environ | {"PYTHONPATH": str(package)} | variables
        told = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return told.stdout.split()[0]

    outer = tmp_path / "outer"
    inner = outer / "inner"
    outer.mkdir()
    git(outer, "init", "-q")
    git(outer, "commit", "-q", "--allow-empty", "-m", "x")
    for name in ("benchmark", "suites"):
        shutil.copytree(root / name, inner / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", inner)
    assert says(inner / "benchmark") == "None"
    assert says(root / "benchmark", GIT_DIR=str(outer / ".git")) == git(root, "rev-parse", "HEAD")
