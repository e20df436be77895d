"""How many small faults the tests find: mutmut changes operators, constants and calls of a module, one at a time, and
runs the tests that reach them.

    python perf/tools/mutation.py board/stats.py plan/identity.py     # modules or folders of the package
    python perf/tools/mutation.py --all                               # everything that decides what is reported

Works on a copy of the checkout (mutmut wants the package in `src/`), in `--folder`, where `mutmut` can be used by hand
afterwards: `mutmut show NAME` prints a mutant. Prints one line a module: mutants, share killed, how many of those ran
out of time, and the names of those that survived. mutmut leaves out decorated functions (`@cache`, `@property`,
`@contextmanager`) and what stands outside of functions, such as constants. Mutants are tested in forks of a process
that has run the tests once: what these have cached by then hides a mutant, so tests clear such caches first.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: They ask a fresh process, of a copy of the package or of another Python (which has no mutmut).
WITHOUT_COPIES = (
    "--deselect=tests/test_identity.py::test_a_change_in",
    "--deselect=tests/test_identity.py::test_comments_docstrings_prose",
    "--deselect=tests/test_digests.py::test_another_python_computes_the_same",
    "--deselect=tests/test_digests.py::test_tricky_sources",
)
#: They build pages, run a suite or read large boards, for seconds.
WITHOUT_PAGES = (
    *(
        "--deselect=tests/board/test_agreement.py::test_board_comparison_and_terminal_agree_on_every_pair_of_every_committed_board"
        f"[{suite}]"
        for suite in ("cifar-narrow", "claims-digits", "methods", "optimizers-digits")
    ),
    "--deselect=tests/board/test_about.py::test_a_page_prints_the_badges",
    "--deselect=tests/board/test_about.py::test_the_terminal_and_json_say_the_same",
    "--deselect=tests/board/test_about.py::test_what_was_tuned_for_each_board_keeps_no_boards_apart",
    "--deselect=tests/board/test_headlines.py::test_committed_results_say_what_the_committed_suites_say",
    "--deselect=tests/board/test_headlines.py::test_no_result_has_a_say_in_the_headline",
    "--deselect=tests/cli/test_compare.py::test_what_is_planned_and_was_not_run_is_told_with_what_runs_it",
    "--deselect=tests/board/test_about.py::test_boards_on_one_page_differ_in_what_it_filters_by_and_in_nothing_else",
    "--deselect=tests/board/test_about.py::test_nothing_is_the_whole_test_set_unless_it_was",
    "--deselect=tests/board/test_headlines.py::test_the_front_page_names_no_winner_of_an_example_or_of_too_few_seeds",
    "--deselect=tests/board/test_headlines.py::test_a_run_keeps_what_its_suite_says_and_the_board_reads_the_file",
    "--deselect=tests/board/test_headlines.py::test_the_page_says_by_what_a_board_is_ranked",
    "--deselect=tests/board/test_settings.py::test_pages_have_the_columns_and_the_marks",
    "--deselect=tests/board/test_settings.py::test_batch_sizes_sort_as_numbers_everywhere",
)
#: A mutant runs out of time after so many times what its tests take, and a second.
PATIENCE = 6
SLOW_ATTACKS = tuple(
    f"and_accuracy_never_rises[{name}]" for name in ("autoattack", "autoattack-l2", "cw-l2", "hopskipjump")
)
SEARCHES = (
    "noise_does_not",
    "each_attack_has_the_search_that_is_made_for_it",
    "what_has_fallen_for_the_search_alone_is_attacked_again_without_it",
    "compiled_code_that_is_deceived_by_some_images_costs_nothing_but_time",
    "what_overflows_in_the_search_alone_is_asked_of_the_model",
    "verdicts_of_other_attacks_are_exact_whatever_they_search_with[deepfool]",
)
RULE = ("tests/test_ranking.py", "tests/perf/test_coverage.py::test_lines_count_while_the_rule_finds_what_it_found")
#: What decides the numbers that are reported, with the tests that are about it: arguments for pytest. Tests that take
#: seconds and find nothing that others miss are deselected, as each mutant would wait for them.
TARGETS: dict[str, tuple[str, ...]] = {
    "board": (
        "tests/test_board.py",
        "tests/test_board_details.py",
        "tests/test_sweeps.py",
        "tests/board",
        "tests/cli/test_compare.py",
        *WITHOUT_PAGES,
    ),
    "board/ranking.py": RULE,
    "board/variances.py": RULE,
    "spec/robustness.py": ("tests/attacks/test_robustness.py", "tests/board/test_worst_case.py"),
    "plan/identity.py": ("tests/test_identity.py", "tests/test_plan.py", *WITHOUT_COPIES),
    "plan/digests.py": ("tests/test_digests.py", "tests/test_identity.py", *WITHOUT_COPIES),
    "store/store.py": (
        "tests/test_store.py",
        "tests/store/test_reading.py",
        "tests/store/test_upkeep.py::test_a_reader_that_meets_a_compaction_loses_nothing",
        "tests/store/test_columns.py::test_one_odd_row_spoils_its_file_alone",
        "tests/store/test_columns.py::test_what_no_result_holds_is_named_by_its_column",
        "tests/store/test_columns.py::test_links_loops_and_pipes_are_named_and_left_alone",
        "--deselect=tests/test_store.py::test_a_flipped_byte",
    ),
    "store/seal.py": ("tests/store/test_seal.py",),
    "lab/evaluate.py": (
        "tests/lab/test_evaluate.py",
        "tests/lab/test_evaluate_rules.py",
        *(f"tests/lab/test_gradients.py::test_{rest}" for rest in SEARCHES),
        *(f"--deselect=tests/lab/test_evaluate.py::test_perturbations_stay_inside_{rest}" for rest in SLOW_ATTACKS),
        "--deselect=tests/lab/test_evaluate.py::test_results_do_not_depend_on_the_batch_size",
    ),
    "lab/train.py": (
        "tests/lab/test_train.py",
        "tests/lab/test_tuning.py",
        "tests/lab/test_recipes.py",
        "--deselect=tests/lab/test_recipes.py::test_a_whole_recipe_goes_on_after_an_interruption",
        "tests/lab/test_checkpoint.py::test_every_norm_goes_on[bn]",
        "tests/attacks/test_adversarial.py::test_it_makes_networks_more_robust[fgsm]",
    ),
}


def stage(folder: Path, targets: list[str]) -> None:
    """Copy what git tracks to `folder`, the package in `src/`, with mutmut's settings for `targets`."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    shutil.rmtree(folder, ignore_errors=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            target = folder / (f"src/{name.removeprefix('benchmark/')}" if name.startswith("benchmark/") else name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    settings = folder / "pyproject.toml"
    text = settings.read_text().replace("benchmark/normbench", "src/normbench")
    only = [f"src/normbench/{t}" if t.endswith(".py") else f"src/normbench/{t}/*" for t in targets]
    tests = sorted({t for target in targets for t in tests_of(target)})
    also = [str(p.relative_to(folder)) for p in folder.iterdir() if p.name not in {"src", "mutants", "pyproject.toml"}]
    text += (
        f'\n[tool.mutmut]\nsource_paths = ["src"]\nonly_mutate = {json.dumps(only)}\nalso_copy = {json.dumps(also)}\n'
        f"pytest_add_cli_args_test_selection = {json.dumps(tests)}\n"
        f'pytest_add_cli_args = ["-p", "quick_first"]\ntimeout_multiplier = {PATIENCE}\n'
    )
    settings.write_text(text)


def tests_of(target: str) -> tuple[str, ...]:
    """The tests for a module or folder of the package: its own entry, or that of the folder it lies in."""
    known = [k for k in TARGETS if target == k or target.startswith(f"{k}/")]
    if not known:
        raise SystemExit(f"no tests are named for {target}; add it to TARGETS in {__file__}")
    return TARGETS[max(known, key=len)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="modules or folders of the package")
    parser.add_argument("--all", action="store_true", help="all of TARGETS")
    parser.add_argument("--folder", type=Path, default=ROOT / ".mutation", help="where to work [default: .mutation]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    targets = list(TARGETS) if arguments.all else arguments.targets
    if not targets:
        parser.error("name modules or folders of the package, or give --all")
    stage(arguments.folder, targets)
    mutmut = [sys.executable, "-m", "mutmut"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(["src", str(Path(__file__).parent)])}
    with (arguments.folder / "mutmut.log").open("wb") as log:  # it draws its progress thousands of times
        ran = subprocess.run(
            [*mutmut, "run", "--max-children", str(arguments.jobs)],
            cwd=arguments.folder,
            env=environment,
            stdout=None if sys.stdout.isatty() else log,
        )
    listed = subprocess.run(
        [*mutmut, "results", "--all", "true"], cwd=arguments.folder, env=environment, capture_output=True, text=True
    ).stdout
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survived: dict[str, list[str]] = defaultdict(list)
    for line in filter(None, map(str.strip, listed.splitlines())):
        name, _, status = line.rpartition(": ")
        module = name.rpartition(".")[0]
        counts[module][status] += 1
        if status not in {"killed", "timeout"}:
            survived[module].append(f"{name} ({status})")
    report = {
        module: {
            "mutants": found.total(),
            "killed": (found["killed"] + found["timeout"]) / found.total(),
            "timeout": found["timeout"],
            "survived": survived[module],
        }
        for module, found in sorted(counts.items())
    }
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        for module, row in report.items():
            print(f"{module:40} {row['mutants']:5} mutants, {row['killed']:6.1%} killed, {row['timeout']} by time")
            print("".join(f"    {name}\n" for name in row["survived"]), end="")
        every = sum((c for c in counts.values()), Counter[str]())
        if every.total():
            print(f"{(every['killed'] + every['timeout']) / every.total():.1%} of {every.total()} killed")
    sys.exit(ran.returncode)


if __name__ == "__main__":
    main()
