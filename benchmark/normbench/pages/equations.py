"""Equations of methods, written in plain text (`w_i = g_i v_i / ||v_i||`), as MathML Core for pages.

Browsers draw it and screen readers read it, without a script. A text that is not understood stands as it is: nothing of
it is left out, ever.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup, escape

_TOKEN = re.compile(r"\s+|\d+(?:\.\d+)?|[A-Za-z]+|<-|-\+|\|\||[=+\-/^_(){}\[\],;:<>|~.*]")
_GREEK = dict(
    zip(
        ["alpha", "beta", "gamma", "delta", "eps", "eta", "lambda", "mu", "sigma", "tau", "rho"],
        ["α", "β", "γ", "δ", "ε", "η", "λ", "μ", "σ", "τ", "ρ"],
        strict=True,
    )
)
_SIGNS = {"-": "−", "<-": "←", "-+": "∓", "~": "∼", "||": "‖"}
#: Names of functions and operators; what else has several letters is a word.
_UPRIGHT = frozenset(["mean", "var", "cov", "max", "min", "tr", "sum", "sigmoid", "erf", "tanh"])
#: Behind the name of a function.
_GAP = '<mspace width="0.2em"></mspace>'


@dataclass
class _Reader:
    tokens: list[str]
    at: int = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1]

    def row(self, closing: str) -> str:
        """Everything up to `closing`, which is taken too."""
        made: list[str] = []
        while self.peek() != closing:
            if not self.peek():
                raise ValueError(f"no {closing!r}")
            if self.peek() == "/" and made:
                self.take()
                above, below = made.pop(), self.atom(inner=True)
                made.append(f"<mfrac>{_bare(above)}{below}</mfrac>" if _whole(below) else f"{above}<mo>/</mo>{below}")
                continue
            made.append(self.atom())
        if closing:
            self.take()
        return f"<mrow>{''.join(made)}</mrow>"

    def atom(self, *, inner: bool = False) -> str:
        """One symbol with what hangs on it. inner: without the parentheses around it."""
        function = self.peek() in _UPRIGHT
        base = self.symbol(inner=inner)
        below = above = ""
        while self.peek() in {"_", "^"}:
            sign, script = self.take(), self.script()
            below, above = (script, above) if sign == "_" else (below, script)
        if below and above:
            base = f"<msubsup>{base}{below}{above}</msubsup>"
        elif below or above:
            base = f"<msub>{base}{below}</msub>" if below else f"<msup>{base}{above}</msup>"
        return f"<mrow>{base}{_GAP}</mrow>" if function else base

    def script(self) -> str:
        if self.peek() == "-":
            return f"<mrow><mo>{_SIGNS[self.take()]}</mo>{self.symbol()}</mrow>"
        made = self.symbol(inner=True)
        return made.replace("\u00a0", "")

    def symbol(self, *, inner: bool = False) -> str:
        if not self.peek():
            raise ValueError("an end where a symbol should be")
        taken = self.take()
        if taken == "(":
            row = self.row(")")
            return row if inner else f"<mrow><mo>(</mo>{row}<mo>)</mo></mrow>"
        if taken == "||":
            return f"<mrow><mo>‖</mo>{self.row('||')}<mo>‖</mo></mrow>"
        if taken == "sqrt" and self.peek() == "(":
            self.take()
            return f"<msqrt>{self.row(')')}</msqrt>"
        if taken[0].isdigit():
            return f"<mn>{taken}</mn>"
        if taken in _GREEK:
            return f"<mi>{_GREEK[taken]}</mi>"
        if taken[0].isalpha():
            return _named(taken)
        return f"<mo>{escape(_SIGNS.get(taken, taken))}</mo>"


def _named(name: str) -> str:
    if len(name) == 1:
        return f"<mi>{name}</mi>"
    known = name in _UPRIGHT or name.isupper()  # axes, as in `mu_NHW`
    return f"<mtext>{name}</mtext>" if known else f"<mtext>\u00a0{name}\u00a0</mtext>"


def _whole(made: str) -> bool:
    """Whether it can stand below a line: the name of a function cannot, as its argument follows."""
    return not made.endswith(f"{_GAP}</mrow>") and not made.startswith("<mo>")


def _bare(made: str) -> str:
    """Above a line parentheses say nothing."""
    found = re.fullmatch(r"<mrow><mo>\(</mo>(<mrow>.*</mrow>)<mo>\)</mo></mrow>", made)
    return found[1] if found else made


def mathml(text: str) -> Markup | None:
    """The inside of a `math` element; None where the text is not understood."""
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != text:
        return None
    try:
        made = _Reader([t for t in tokens if not t.isspace()]).row("")
    except (ValueError, RecursionError):
        return None
    return Markup(made)  # noqa: S704
