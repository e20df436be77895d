"""The glossary: terms of the boards, attacks, measures, and the papers that all of it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import normbench.attacks as attacks
import normbench.measures as measures
import normbench.norms as norms
from normbench.board import MIN_SEEDS, slugify
from normbench.claims.base import SOURCES
from normbench.pages.context import Context
from normbench.pages.methods import linked
from normbench.spec.plugins import Registry
from normbench.store.levels import Level


@dataclass(frozen=True)
class Term:
    name: str
    text: str
    slug: str = ""

    @property
    def anchor(self) -> str:
        return self.slug or slugify(self.name)


#: Terms by group, in the order in which a reader meets them.
TERMS: dict[str, tuple[Term, ...]] = {
    "What is compared": (
        Term("Method", "What normalizes a network: a layer on activations, a rule on weights, or both, as in ws+gn."),
        Term("Trial", "One network, trained, measured and attacked once. It has one seed. Also called a run."),
        Term(
            "Seed",
            "The number that decides initial weights, order of the images, augmentation and noise. Under one seed all "
            "methods get the same.",
        ),
        Term("Entry", "All trials of one method that share every setting but the seed. A row of a board."),
        Term(
            "Board",
            "Entries that may be compared: same dataset, network, width, batch size and evaluation, as many epochs on "
            "the same training images, on one class of device in one precision. Other settings are columns.",
        ),
        Term("Suite", "A file that says which trials to run. Its role says whether its boards may name a winner."),
        Term(
            "Role",
            "What a suite is for: headline, study or example. Examples show that something runs; they name no winners.",
        ),
        Term(
            "Family",
            "Where a method takes its statistics: from the batch, from each sample, from the weights, by whitening, or "
            "from nothing.",
        ),
        Term("Width", "The factor that multiplies the channel numbers of a network."),
        Term(
            "Tuned",
            "Settings chosen for each method on training images that were held out, never on test images. A star "
            "marks a value at the end of those tried: a better one may lie beyond.",
        ),
    ),
    "What is measured": (
        Term("Clean accuracy", "The share of test images that a network classifies correctly, as they are."),
        Term(
            "Robust accuracy",
            "The share of test images that are classified correctly both before and after an attack of a given size.",
        ),
        Term(
            "Attack",
            "A search for a small change of an image that makes the network wrong. Its size is in pixel space [0, 1].",
        ),
        Term(
            "Threat",
            "How the size of a change is measured: linf is the largest change of a pixel, l2 the Euclidean length, "
            "l1 the sum of changes; noise and corruptions search for nothing.",
        ),
        Term("Worst case", "An image counts as right only if it survives every attack within the ball."),
        Term(
            "Headline",
            "The robustness number that a board ranks by. The suite names it before anything is run; else a rule "
            "chooses it that looks at no result.",
        ),
        Term(
            "Growth of the weights",
            "The L2 norm of all weights at the end of training, divided by that at the start. It is neither good nor "
            "bad.",
            "growth",
        ),
        Term("Raw weights", "The weights that the optimizer moves."),
        Term("Effective weights", "The weights that a layer multiplies with, after a method has changed them."),
        Term(
            "Scale-invariant weight",
            "A weight whose length changes nothing: the network says the same when it is doubled. Measured before "
            "training.",
            "scale-invariant",
        ),
        Term(
            "Health checks",
            "Tests of whether the robustness numbers of a network can be trusted, such as vanishing gradients. A flag "
            "(⚑) marks one that did not pass.",
        ),
    ),
    "How sure it is": (
        Term(
            "Interval",
            "Where the mean lies, seen over seeds. Two methods are told apart exactly where their intervals do not "
            "overlap; of boards on which no methods differ, at most 1 in 20 tells any pair apart.",
        ),
        Term(
            "Rank",
            "From best to worst possible: the best is 1 plus the number of methods that lie wholly above, the worst "
            "counts those that do not lie wholly below.",
        ),
        Term(
            "Cannot be told apart",
            "The intervals overlap: the seeds do not say which of two methods is better. It does not mean equal.",
        ),
        Term("Not tested", f"There are fewer than {MIN_SEEDS} seeds, so there are dots, and no interval and no rank."),
        Term("Diverged", "The loss was no longer a number, or grew beyond all bounds. A failure stays on the board."),
        Term("Wilson interval", "The interval of one network's accuracy over test images. It covers no other seed."),
        Term("Paired by seed", "Methods are compared under one seed at a time, so that a lucky seed helps both."),
        *(Term(f"{level.symbol} {level.value}", f"A level of trust: {level.meaning}.") for level in Level),
    ),
    "Where it is kept": (
        Term("Specification", "Every setting of a trial, nothing left to defaults. Its hash is the trial's id."),
        Term("Identity", "A hash of all that decides a result: specification, images, code and versions."),
        Term("Data version", "A hash of all results. It changes whenever one of them does."),
        Term("Provenance", "The commit, the versions and the machine that a result comes from."),
    ),
}
KINDS: dict[str, Registry[Any]] = {
    "Methods": norms.registry,
    "Attacks": attacks.registry,
    "Measures": measures.registry,
}


def write(context: Context) -> None:
    """Write glossary.html."""
    context.writer.page(
        "glossary.html",
        "glossary.html",
        title="Glossary and papers",
        description="What the words on the boards mean: metrics, ranks, intervals, attacks, measures; and the papers.",
        terms=[(slugify(group), group, terms) for group, terms in TERMS.items()],
        attacks=cards("Attacks"),
        measures=cards("Measures"),
        norms=[c | {"href": f"methods/{context.methods[c['name']].slug}.html"} for c in cards("Methods")],
        sources=[(s.short, linked(f"{s.full}. {s.address}")) for s in SOURCES.values()],
    )


def cards(kind: str) -> list[dict[str, Any]]:
    """What the page says of each plug-in of a kind."""
    registry = KINDS[kind]
    found = [registry.get(name) for name in registry.names()]
    return [
        {
            "name": c.name,
            "anchor": f"{kind.lower()}-{slugify(c.name)}",
            "href": "",
            "summary": c.summary,
            "source": linked(c.source),
        }
        for c in found
    ]
