"""What recorded quantities are called in words. Their keys are for files: `conditioning.gradient@0.5` is the
conditioning of the gradients at half of the directions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from normbench.spec.outcome import BALLS
from normbench.spec.robustness import CLEAN, WORST_CASE, apart
from normbench.spec.text import show

#: Key without coordinates and without what `_ENDS` adds -> words.
NAMES = {
    "lr": "learning rate",
    "train.loss": "training loss",
    "train.accuracy": "training accuracy",
    "train.step-loss": "training loss of single steps",
    "validation.accuracy": "accuracy on held-out training images",
    "conditioning.gradient": "condition number of the gradients",
    "conditioning.input": "condition number of the inputs",
    "constraints.number": "constraint number",
    "constraints.share": "constraint number per value",
    "disturbance.relative": "disturbance by the rest of the batch, relative",
    "disturbance.snd": "disturbance by the rest of the batch",
    "effective-lr.angle": "angle that a step turns the weights by",
    "effective-lr.angle-equilibrium": "angle of a step at equilibrium",
    "effective-lr.norm": "norm of scale-invariant weights",
    "effective-lr.norm-equilibrium": "norm at equilibrium",
    "effective-lr.rate": "effective learning rate",
    "growth.radial": "radial part of the growth",
    "growth.rate": "growth of the squared norm by a step",
    "growth.residual": "residual of the growth identity",
    "growth.residual-other": "residual of the growth identity, other weights",
    "growth.rounding": "rounding in the growth identity",
    "hessian.eigenvalue.min": "smallest eigenvalue of the Hessian",
    "hessian.quantile": "eigenvalue of the Hessian",
    "hessian.residual": "residual of the largest eigenvalue",
    "hessian.trace": "trace of the Hessian",
    "norm-input.deviation": "|γ − σ|",
    "norm-input.running-deviation": "|γ − running σ|",
    "norm-input.running-shift": "|β − running μ|",
    "norm-input.running-variance": "|γ² − running σ²|",
    "norm-input.shift": "|β − μ|",
    "norm-input.variance": "|γ² − σ²|",
    "orthogonality.row": "|cos| of weight and gradient, by row",
    "orthogonality.tensor": "|cos| of weight and gradient",
    "pruning.gamma": "accuracy with channels of small γ removed",
    "pruning.random": "accuracy with random channels removed",
    "pruning.similarity": "accuracy with similar channels merged",
    "pruning.tau": "largest distance of merged channels",
    "pruning.unpruned": "accuracy of the whole network on the same images",
    "rank.energy": "share of the weights in the range of their inputs",
    "rank.fan-in": "inputs of a unit",
    "rank.kernel": "dimensions of the kernel of the inputs",
    "rank.positions": "output positions of a batch",
    "rank.rank": "rank of the inputs",
    "rescaling.bim": "accuracy under BIM",
    "rescaling.clean": "clean accuracy",
    "rescaling.layers": "layers rescaled as a whole",
    "rescaling.logits": "largest change of a logit",
    "rescaling.row-layers": "layers rescaled by rows",
    "shift.cosine": "cosine of a gradient before and after the update",
    "shift.distance": "change of a gradient by the update",
    "smoothness.beta": "effective smoothness β",
    "smoothness.change.max": "largest change of the gradient along it",
    "smoothness.change.min": "smallest change of the gradient along it",
    "smoothness.gradient": "norm of the gradient",
    "smoothness.loss.max": "largest loss along the gradient",
    "smoothness.loss.min": "smallest loss along the gradient",
    "sphere.ellipsoid": "distance of the weights from their ellipsoid",
    "sphere.paper": "distance of the outputs from the paper's sphere",
    "sphere.radius": "distance of the outputs from their sphere",
    "surface.loss": "loss around the network",
    "wasserstein.distance": "earth mover's distance of an update",
    "wasserstein.relative": "earth mover's distance of an update, relative",
    "weight-norm.effective": "norm of the effective weights",
    "weight-norm.raw": "norm of the weights",
}
#: What a key may end in.
_ENDS = {
    "-invariant": "scale-invariant ones",
    "-other": "those that are not scale-invariant",
    "-worst": "largest",
    "-max": "largest",
    "-mean": "mean",
    "-median": "median",
    ".error": "standard error",
}
#: What stands behind an `@`, by measure; `{}` is the coordinate.
_PLACES = {
    "conditioning": "at {} of the directions",
    "hessian": "with a share {} at or below it",
    "pruning": "share {}",
    "surface": "at ({})",
}
#: How health checks write that an attack leaves fewer images than another.
_PAIR = re.compile(r"(\d+) and (\d+) of (\d+) stand; the second may be lower by ([\d.]+)")
#: Attacks and statistics as papers write them; of others the underscores go.
ATTACKS = {
    "adapted": "adapted statistics",
    "alma": "ALMA",
    "autoattack": "AutoAttack",
    "batch": "statistics of the batch",
    "bim": "BIM",
    "cifar10_c": "CIFAR-10-C",
    "clean": "clean accuracy",
    "cw": "Carlini and Wagner",
    "ddn": "DDN",
    "ddn_advlib": "DDN of advlib",
    "deepfool": "DeepFool",
    "fgsm": "FGSM",
    "fmn": "FMN",
    "galloway": "the attack of Galloway et al.",
    "hopskipjump": "HopSkipJump",
    "mim": "MIM",
    "noise": "Gaussian noise",
    "pgd": "PGD",
    "precise": "precise statistics",
    "salt_and_pepper": "salt-and-pepper noise",
    "square": "the Square attack",
    "uniform_noise": "uniform noise",
}
#: Balls that attacks stay within.
NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1"}
#: Parameters that stand behind their value: `steps=10` is `10 steps`.
_COUNTED = {"steps", "restarts"}
_WRITTEN = {"linf": "L∞", "l2": "L2", "l1": "L1", "dlr": "DLR", "ce": "cross-entropy"}
#: A plug-in with parameters within a text, as results name it.
_LABEL = re.compile(r"[a-z][\w+-]*\[[\w=,;.+-]+\]")
_FACTORS = {"1": "as trained", "rows": "rows rescaled", "reference": "by the reference network"}


def capital(text: str) -> str:
    """With a capital letter at the start of a line."""
    return f"{text[:1].upper()}{text[1:]}"


@cache
def quantity(key: str) -> str:
    """The words of any key, those of plug-ins from elsewhere too: what is not known by name is spelled out."""
    whole, _, place = key.partition("@")
    text = _base(whole)
    return f"{text}, {_place(whole.partition('.')[0], place)}" if place else text


@cache
def attacked(attack: str, threat: str, size: float | None) -> str:
    """An attack at a size, by the statistics that it was evaluated by: `PGD (10 steps, DLR loss) at 2/255`, `worst case
    of all attacks within 2/255 in L∞`. attack: as results name it, `pgd[steps=10,loss=dlr]`.
    """
    images, statistics = apart(attack)
    if images == WORST_CASE:
        within = "" if size is None else f" within {show(size)}"
        said = f"{WORST_CASE} of all attacks{within} in {NORMS.get(threat, threat)}"
    elif threat == CLEAN:
        said = component(images)
    else:
        name, bracket, rest = images.partition("[")
        said = component(f"{name.removesuffix(f'_{threat}')}{bracket}{rest}")
        if size is not None:
            said += f" {'of severity' if threat == 'corruption' else 'at'} {show(size)}"
        if threat in BALLS and threat != "linf":  # L∞ is the usual ball
            said += f" in {NORMS[threat]}"
    return f"{said}, by {component(statistics)}" if statistics else said


@cache
def component(label: str) -> str:
    """A plug-in with its parameters, as results name it, in words: `pgd[steps=10,loss=dlr]` is `PGD (10 steps, DLR
    loss)`.
    """
    name, _, rest = label.partition("[")
    words = ATTACKS.get(name, name.replace("_", " "))
    parameters = ", ".join(map(_parameter, rest.removesuffix("]").split(","))) if rest else ""
    return f"{words} ({parameters})" if parameters else words


def describe(component: Mapping[str, Any]) -> str:
    """A component with all of its parameters: `bim (eps 1/255; 2/255, steps 20)`."""
    params = ", ".join(f"{k.replace('_', ' ')} {show(v)}" for k, v in component["params"].items() if v is not None)
    return f"{component['name']} ({params})" if params else str(component["name"])


def _parameter(text: str) -> str:
    key, _, value = text.partition("=")
    value = ", ".join(_WRITTEN.get(v, v.replace("_", " ")) for v in value.split(";"))
    key = key.replace("_", " ")
    if not value or value == "true":
        return key
    if key == "kinds":
        return value
    if key in _COUNTED:
        return f"{value} {key.removesuffix('s') if value == '1' else key}"
    return f"{value} {key}" if key == "loss" else f"{key} {value}"


def spelled(text: str) -> str:
    """A text in which plug-ins with parameters are in words: `bn less gn[groups=4]` is `bn less gn (groups 4)`."""
    return _LABEL.sub(lambda match: component(match[0]), text)


def evidence(text: str) -> str:
    """What a health check saw, as stored, in a sentence that needs no explanation."""
    text = _PAIR.sub(r"\1 of \3 images withstand the first, \2 the second; more than \4 fewer would be a fault", text)
    return re.sub(r"^(\d+ of \d+) stand ", r"\1 images withstand ", text)


def _base(key: str) -> str:
    if key.startswith("growth:"):
        return f"growth of the {_base(key.removeprefix('growth:')).removeprefix('norm of the ')}"
    if key in NAMES:
        return NAMES[key]
    if match := re.fullmatch(r"hessian\.eigenvalue\.(\d+)", key):
        return f"eigenvalue {match[1]} of the Hessian"
    for end, words in _ENDS.items():
        if key.endswith(end) and key != end:
            return f"{_base(key.removesuffix(end))}, {words}"
    spaced = re.sub(r"[-_]+", " ", key)
    return re.sub(r"(?<!\d)[.:]+|[.:]+(?!\d)", ": ", spaced).strip(": ") or key


def _place(measure: str, place: str) -> str:
    if measure == "rescaling":
        return _FACTORS.get(place, f"weights times {place}")
    return _PLACES.get(measure, "at {}").format(place.replace(",", ", ").replace("-", "−"))
