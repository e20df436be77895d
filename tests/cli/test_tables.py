"""Tables to take home: each syntax read back by a reader of its own, whatever methods are called."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from normbench.board import Board, boards, sheets
from normbench.board.layout import paper_layout
from normbench.board.sheets import Number, Sheet, harmless, latex, markdown, tidy_csv, write_csv
from normbench.errors import BenchError
from normbench.store.schema import to_row
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexWalker

from tests.cli.conftest import ROOT, Bench
from tests.site import synthetic

HOSTILE = [
    "=cmd|'/C calc'!A0",
    "+1",
    "@SUM(A1)",
    "-2+3",
    " \t=1",
    "a|b",
    "a&b%c$d#e_f{g}~h^i\\j",
    "\\\\",
    "[x]",
    "*",
    "<script>",
    "\x1b[2J",
    "a\nb",
    "日本⚑",
    "gn[groups=8]",
]


@pytest.fixture(scope="module")
def board() -> Board:
    """Methods with hostile names, three seeds each, with and without weight decay."""
    trials = [
        synthetic.trial(norm, seed, weight_decay=decay)
        for norm in ("bn", "gn")
        for seed in range(3)
        for decay in (0, 5e-4)
    ]
    trials += [synthetic.trial("bn", s).model_copy(update={"norm_label": n}) for n in HOSTILE for s in range(3)]
    (made,) = boards([to_row("demo", t, synthetic.identity(t), synthetic.outcome(t)) for t in trials])
    return made


def document(text: str) -> str:
    return (
        "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
        f"{text}\n\\end{{document}}\n"
    )


def check_latex(text: str, folder: Path) -> None:
    """Compiled where there is a compiler, else read by a parser that is strict."""
    (folder / "t.tex").write_text(document(text))
    for compiler in (["tectonic", "t.tex"], ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]):
        if shutil.which(compiler[0]):
            done = subprocess.run(compiler, cwd=folder, capture_output=True, text=True, errors="replace")
            assert done.returncode == 0, done.stdout[-3000:]
            assert (folder / "t.pdf").is_file()
            assert "Overfull" not in done.stdout + done.stderr, "it is wider than its page"
    nodes, _, _ = LatexWalker(text, tolerant_parsing=False).get_latex_nodes()
    tables = [n for n in nodes if isinstance(n, LatexEnvironmentNode)]
    assert tables
    for node in tables:
        assert node.environmentname == "table"
        inside = re.search(r"\\begin\{tabular\}.*\\end\{tabular\}", node.latex_verbatim(), re.DOTALL)[0]  # type: ignore[index]
        columns = len(re.match(r"\\begin\{tabular\}\{([lr]+)\}", inside)[1])  # type: ignore[index]
        body = inside.split("\\midrule\n")[1].split("\\bottomrule")[0].strip().removesuffix(" \\\\")
        for row in body.split(" \\\\\n"):
            assert len(re.findall(r"(?<!\\)&", row)) == columns - 1, row


def test_a_latex_table_compiles_whatever_methods_are_called(board: Board, tmp_path: Path) -> None:
    made = sheets.sheets(board)
    assert [len(s.columns) > 0 for s in made] == [True] * 3
    check_latex(latex(made), tmp_path)
    check_latex(latex([sheet for sheet in [paper_layout(board)] if sheet]), tmp_path)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_a_cell_in_every_syntax(text: str) -> None:
    sheet = Sheet(text, text, ("Method",), (text,), (((text,), (Number(text, best=True),)), ((text,), (Number("1"),))))
    LatexWalker(latex([sheet]), tolerant_parsing=False).get_latex_nodes()
    table = [line for line in markdown([sheet]).split("\n") if line.startswith("| ")]
    assert len(table) == 4
    assert all(len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) == 3 for line in table)
    ((cell, number),) = csv.reader(io.StringIO(write_csv([[text, -1.5]])))
    assert number == "-1.5"
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝"))
    assert not set(markdown([sheet])) & {"\x1b", "\x9b", "\u202e"}


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", " =1", "\t=1", "\r=1", "＝1", "\u2003@x"])
def test_formulas_are_quoted(text: str) -> None:
    assert harmless(text) == f"'{text.strip()}"
    assert harmless(-1.5) == -1.5


def test_ties_and_intervals_are_in_every_table(board: Board) -> None:
    clean = sheets.sheets(board)[0]
    words, numbers = clean.rows[0]
    assert clean.heads[:2] == ("Rank", "Method")
    assert re.fullmatch(r"1–\d+", words[0])
    assert " ± " in numbers[0].text
    assert numbers[0].best
    assert f"**{numbers[0].text}**" in markdown([clean])
    assert "\\textbf{" + numbers[0].text.replace("±", "\\ensuremath{\\pm}") + "}" in latex([clean])


def test_csv_holds_every_metric_of_every_entry(board: Board) -> None:
    lines = list(csv.DictReader(io.StringIO(tidy_csv([board]))))
    assert len(lines) == len(board.entries) * len(board.metrics)
    cells = [e.cells[m.key] for e in board.entries for m in board.metrics]
    assert [float(line["value"]) for line in lines] == [c.value for c in cells]
    assert [float(line["low"]) for line in lines] == [c.interval.low for c in cells if c.interval]


def test_the_papers_layout(board: Board) -> None:
    sheet = paper_layout(board)
    assert sheet is not None
    first = sheet.columns.index("bn")
    assert sheet.columns[first : first + 4] == ("bn", "bn+WD", "gn", "gn+WD")
    assert [words for words, _ in sheet.rows] == [
        ("Clean",),
        ("noise 0.0625",),
        ("Acc-Diff1",),
        ("bim[steps=20] 1/255",),
        ("Acc-Diff2",),
    ]
    by = {words[0]: numbers for words, numbers in sheet.rows}
    for noisy, difference in (("noise 0.0625", "Acc-Diff1"), ("bim[steps=20] 1/255", "Acc-Diff2")):
        for clean, under, less in zip(by["Clean"], by[noisy], by[difference], strict=True):
            assert less.value == pytest.approx((clean.value or 0) - (under.value or 0))


FORMATS = {".md": "### digits", ".tex": "\\begin{table}", ".csv": "board,dataset", ".json": "[", ".txt": "Accuracy, %"}


def test_a_file_says_its_format(shown: Bench, tmp_path: Path) -> None:
    for suffix, part in FORMATS.items():
        out = tmp_path / f"board{suffix}"
        assert shown("board", "digits", "--only", "norm=none", "-o", str(out)) == f"wrote {out}\n"
        assert part in out.read_text()
    assert json.loads((tmp_path / "board.json").read_text())[0]["entries"]
    assert shown("board", "digits", "--only", "norm=none", "--format", "md") == (tmp_path / "board.md").read_text()


def test_pipes_devices_and_links_stay(shown: Bench, tmp_path: Path) -> None:
    """As root, a file put in its place would take /dev/null from everyone."""
    asked = ("board", "digits", "--only", "norm=none", "--format", "md", "-o")
    wanted = shown(*asked[:-1])
    pipe, link, target = (tmp_path / name for name in ("pipe", "link.md", "target.md"))
    os.mkfifo(pipe)
    link.symlink_to(target)
    for _ in range(2):  # before and after there is a target
        shown(*asked, str(link))
        assert (link.readlink(), target.read_text()) == (target, wanted)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(pipe.read_text)
        shown(*asked, str(pipe))
        assert read.result(60) == wanted
    assert pipe.is_fifo()
    link.unlink()
    link.symlink_to(link)
    shown(*asked, str(link))
    shown(*asked, os.devnull)
    assert Path(os.devnull).is_char_device()


def test_the_layout_in_every_format(shown: Bench, tmp_path: Path) -> None:
    check_latex(shown("table", "digits", "--format", "latex"), tmp_path)
    assert "Acc-Diff2" in shown("table", "digits", "--format", "md", "--attack", "worst case linf 16/255")
    rows = json.loads(shown("table", "digits", "--json"))[0]["rows"]
    lines = list(csv.DictReader(io.StringIO(shown("table", "digits", "--format", "csv"))))
    for line in lines:
        assert float(line["value"]) == rows[line["row"]][line["method"]]["value"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "x.foo"), "the name says no format"),
        (("-o", "nowhere/x.md"), "there is no folder nowhere"),
        (("-o", "suites.md/"), "-o suites.md"),
        (("--json", "--format", "md"), "exclude each other"),
    ],
)
def test_wrong_outputs_are_one_message(
    shown: Bench, arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suites.md").mkdir()
    with pytest.raises(BenchError, match=re.escape(message)):
        shown("board", "digits", *arguments)
    assert [p.name for p in tmp_path.iterdir()] == ["suites.md"]


def test_an_unknown_metric_names_those_that_there_are(shown: Bench) -> None:
    with pytest.raises(BenchError, match=r"--noise 'nois@0.1': no board has this metric; did you mean 'noise@0.1'"):
        shown("table", "digits", "--noise", "nois@0.1")


def test_the_commands_in_the_docs_work(
    shown: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench_documents: list[str]
) -> None:
    monkeypatch.setenv("BENCH_RESULTS", str(ROOT / "results"))
    monkeypatch.chdir(tmp_path)
    for line in bench_documents:
        assert shown(*shlex.split(line)[1:])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["board.csv", "board.tex"]


@pytest.fixture
def bench_documents() -> list[str]:
    """The commands of docs/results.md that make tables."""
    (block,) = re.findall(r"<!-- tables -->\n```sh\n(.*?)```", (ROOT / "docs" / "results.md").read_text(), re.DOTALL)
    return block.splitlines()


def test_without_results_there_is_no_empty_table(shown: Bench, tmp_path: Path) -> None:
    for verb in ("board", "table"):
        with pytest.raises(BenchError, match=r"no results of digits in .* yet: bench run digits"):
            shown(verb, "digits", "--format", "md", "--results", str(tmp_path))
        assert shown(verb, "digits", "--json", "--results", str(tmp_path)) == "[]\n"
        assert "yet: bench run digits" in shown(verb, "digits", "--results", str(tmp_path))
