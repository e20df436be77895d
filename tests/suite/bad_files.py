"""Wrong suite files with their messages, for `test_bad_files`."""

from __future__ import annotations

from normbench.spec.trial import DataSpec, TrainSpec
from normbench.suite import Suite, TuneOptions
from normbench.suite._sections import TUNABLE

#: Four lines that are a valid suite; the tables below add to it from line 5 on.
BASE = "suite: x\ndata: {dataset: digits}\nmodels: resnet18\nnorms: [bn, gn]\n"
KEYS = ", ".join(f.alias or key for key, f in Suite.model_fields.items())
TRAIN = ", ".join(TrainSpec.model_fields)
DATA = ", ".join(DataSpec.model_fields)
TUNE = ", ".join([*TUNABLE, *TuneOptions.model_fields])
TUNED = f"settings are {', '.join(TUNABLE)}"
NAME = "expected a name of 1 to 64 lower-case letters, digits, '-' and '_' (no path), found"
WHERE = "expected a name such as digits or cifar10, hub:owner/name, or the path of a folder, found"
NO_TAGS = "is not allowed; a suite holds plain text, numbers, lists and mappings"
TOO_MANY = "more than the 100,000 that a suite may have"
PIXELS = "expected a number above 0 and at most 1 (in pixel space [0, 1]: write 8/255 for eight grey levels)"

NOT_A_SUITE = {
    "empty": ("", f"f.yaml:1: the file is empty; a suite has the keys {KEYS}"),
    "only a comment": ("# nothing\n", f"f.yaml:1: the file is empty; a suite has the keys {KEYS}"),
    "null": ("---\n~\n", f"f.yaml:2: the file is empty; a suite has the keys {KEYS}"),
    "a list at the top": ("- bn\n- gn\n", f"f.yaml:1: expected the keys of a suite ({KEYS}), found a list"),
    "a word": ("digits", f"f.yaml:1: expected the keys of a suite ({KEYS}), found 'digits'"),
    "binary": (b"\x89PNG\r\n\x1a\n\0\0", "f.yaml:1: byte 0x89 is not UTF-8; a suite is a text file"),
    "zeros": (b"suite: x\n\0\0\0", "f.yaml:2: character 0x00 is not text; a suite is a text file"),
    "UTF-16": ("suite: x".encode("utf-16"), "f.yaml:1: byte 0xff is not UTF-8; a suite is a text file"),
    "too large": (b"#" * 100_001, "f.yaml: larger than 100,000 bytes; a suite is a page of YAML text"),
    "open bracket": ("a: [1, 2", "f.yaml:1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
    "tab": (
        "a:\n\t- b",
        "f.yaml:2: not valid YAML: found character '\\t' that cannot start any token; indent with spaces, not tabs",
    ),
    "two documents": (f"{BASE}---\n{BASE}", "f.yaml:5: a second document starts here; a suite file holds one"),
    "deep brackets": ("[" * 5000, "f.yaml:1: nested deeper than 20 levels"),
    "deep dashes": ("- " * 300 + "a", "f.yaml:1: nested deeper than 20 levels"),
    "deep by aliases": (
        "a: &a [[[[[[[[[[1]]]]]]]]]]\nb: [[[[[[[[[[*a]]]]]]]]]]",
        "f.yaml:2: nested deeper than 20 levels",
    ),
    "alias bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{n}: &{n} [{', '.join([f'*{chr(ord(n) - 1)}'] * 9)}]\n" for n in "bcdefghi"),
        "f.yaml:6: holds more than 100,000 values, those behind aliases counted each time",
    ),
    "escape out of range": ('a: "\\UFFFFFFFF"', "f.yaml:1: not valid YAML: Python int too large to convert to C int"),
}

#: Added to BASE, with what is wrong then.
ONE_PROBLEM = {
    "tag": (
        "about: !!python/name:os.system x",
        f"5: about: the tag !!python/name:os.system {NO_TAGS}",
    ),
    "tag on a list": (
        "attacks: !!python/object/apply:os.system [ls]",
        f"5: attacks: the tag !!python/object/apply:os.system {NO_TAGS}",
    ),
    "duplicate key": ("norms: [ln]", "5: norms: the key 'norms' is given twice, first on line 4"),
    "duplicate key below": (
        "train:\n  lr: 0.1\n  lr: 0.2",
        "7: train.lr: the key 'lr' is given twice, first on line 6",
    ),
    "merge key": ("train: {<<: {lr: 0.1}}", "5: train: merge keys (<<) are not read; write the keys out"),
    "number as a key": ("3: 4", "5: a key must be plain text, found 3"),
    "list as a key": ("? [a, b]\n: c", "5: a key must be text, found a list or mapping"),
    "alias without anchor": ("about: *a", "5: about: the alias *a has no anchor of that name above it"),
    "alias of itself": ("seeds: &a [1, *a]", "5: seeds[1]: the alias *a stands inside the value that it names"),
    "lone surrogate": ('about: "\\ud800"', "5: about: the text holds the character 0xd800, which is no text"),
    "unknown key": ("norm: bn", f"5: norm: unknown key; allowed are {KEYS}; did you mean 'norms'?"),
    "key of a section": ("epochs: 3", f"5: epochs: unknown key; allowed are {KEYS}; did you mean 'train.epochs'?"),
    "unknown key below": (
        "train:\n  optimiser: sgd",
        f"6: train.optimiser: unknown key; allowed are {TRAIN}; did you mean 'optimizer'?",
    ),
    "list for a section": ("train: [0.1]", f"5: train: expected a mapping of keys ({TRAIN}), found a list"),
    "nothing for a section": ("train:", f"5: train: expected a mapping of keys ({TRAIN}), found nothing"),
    "text for a number": (
        "train: {epochs: three}",
        "5: train.epochs: expected a whole number from 1 to 100000, found 'three'",
    ),
    "quoted number": ("train: {epochs: '3'}", "5: train.epochs: expected a whole number from 1 to 100000, found '3'"),
    "negative": ("train: {epochs: -1}", "5: train.epochs: expected a whole number from 1 to 100000, found -1"),
    "fraction": ("train: {epochs: 2.5}", "5: train.epochs: expected a whole number from 1 to 100000, found 2.5"),
    "huge": (
        f"train: {{epochs: {'9' * 4000}}}",
        "5: train.epochs: expected a finite number, found " + "9" * 50 + "... (4000 characters)",
    ),
    "not a number": ("train: {lr: .nan}", "5: train.lr: expected a finite number, found .nan"),
    "infinite": ("train: {lr: 1e999}", "5: train.lr: expected a finite number, found 1e999"),
    "divided by zero": ("train: {lr: 1/0}", "5: train.lr: expected a number above 0 and at most 1000, found '1/0'"),
    "truth for a number": ("train: {lr: true}", "5: train.lr: expected a number above 0 and at most 1000, found true"),
    "number for truth": ("train: {drop_last: 1}", "5: train.drop_last: expected true or false, found 1"),
    "in a list": (
        "train: {lr: [0.1, high]}",
        "5: train.lr[1]: expected a number above 0 and at most 1000, found 'high'",
    ),
    "empty axis": ("batch_sizes: []", "5: batch_sizes: expected at least one value, found an empty list"),
    "wrong word": (
        "train: {schedule: cosin}",
        "5: train.schedule: expected one of cosine, linear, constant, step, found 'cosin'; did you mean 'cosine'?",
    ),
    "nothing for a value": ("train: {lr: }", "5: train.lr: expected a number above 0 and at most 1000, found nothing"),
    "milestone of one": (
        "train: {schedule: step, milestones: [1/2, 1]}",
        "5: train.milestones[1]: expected a number above 0 and below 1, found 1",
    ),
    "no milestone": (
        "train: {schedule: step, milestones: []}",
        "5: train.milestones: expected at least one value, found an empty list",
    ),
    "milestones without steps": (
        "train: {milestones: 0.3}",
        "5: train.milestones: milestones is of `schedule: step`, and no trial has that schedule",
    ),
    "a factor to choose without steps": (
        "tune: {factor: [1/10, 1/5]}",
        "5: tune.factor: factor is of `schedule: step`, and no trial has that schedule",
    ),
    "factor of two": (
        "train: {schedule: step, factor: 2}",
        "5: train.factor: expected a number above 0 and below 1, found 2",
    ),
    "nesterov without momentum": (
        "train: {momentum: 0, nesterov: true}",
        "5: train.nesterov: Nesterov momentum needs a momentum above 0, found 0",
    ),
    "nesterov of another": (
        "train: {optimizer: adamw, nesterov: true}",
        "5: train.nesterov: Nesterov momentum is of sgd, lars, muon, and no trial has these",
    ),
    "clipped twice": (
        "train: {clip_grad: 1, agc: [null, 0.01]}",
        "5: train.agc: agc and clip_grad both clip gradients; expected one of them, the other null",
    ),
    "clipped twice by choice": (
        "train: {clip_grad: 1}\ntune: {agc: [null, 0.01]}",
        "6: tune.agc: agc and clip_grad both clip gradients; expected one of them, the other null",
    ),
    "mixup of next to nothing": (
        "train: {mixup: 1e-9}",
        "5: train.mixup: expected 0 or a number from 0.01 to 100, found 1e-09",
    ),
    "mixed odd batches": (
        "train: {cutmix: 1}\nbatch_sizes: [32, 33]",
        "6: batch_sizes: cutmix pairs the images of a batch: expected an even batch size, found 33",
    ),
    "mixed last batches": (
        "train: {mixup: 1, drop_last: false}",
        "5: train.drop_last: mixup pairs the images of a batch, and the last one may be odd; write true",
    ),
    "mixed and attacked": (
        "train: {mixup: 1, adversarial: {fgsm: {eps: 8/255}}}",
        "5: train.mixup: mixup mixes labels, which the attack of adversarial training needs whole",
    ),
    "an average that never moves": (
        "train: {ema: 1}",
        "5: train.ema: expected a number above 0 and below 1 or null, found 1",
    ),
    "share of one": ("train: {warmup: 1}", "5: train.warmup: expected a number of at least 0 and below 1, found 1"),
    "zero batch": ("batch_sizes: 0", "5: batch_sizes: expected a whole number from 1 to 1000000, found 0"),
    "batch above the data": (
        "batch_sizes: [64, 2000]",
        "5: batch_sizes: a batch of 2,000 is larger than the 1,437 training images of digits",
    ),
    "zero width": ("widths: 0", "5: widths: expected a number above 0 and at most 64, found 0"),
    "seeds as text": (
        "seeds: three",
        "5: seeds: expected a number of seeds (3 means 0, 1, 2) or a list of them, found 'three'",
    ),
    "negative seed": (
        "seeds: [-1]",
        "5: seeds[0]: expected a whole number of at least 0 and below 2147483648, found -1",
    ),
    "no seeds": ("seeds: 0", "5: seeds: expected a number of seeds (3 means 0, 1, 2) or a list of them, found 0"),
    "a huge grid": (
        "seeds: 1000000000",
        f"5: seeds: the grid has 2,000,000,000 trials (seeds 1,000,000,000 x norms 2), {TOO_MANY}",
    ),
    "a huge product": (
        f"batch_sizes: {list(range(1, 401))}\nseeds: 300",
        f"5: batch_sizes: the grid has 240,000 trials (batch_sizes 400 x seeds 300 x norms 2), {TOO_MANY}",
    ),
    "a huge include": (
        f"include: {{batch_size: {list(range(1, 1001))}, seed: {list(range(100))}}}",
        f"5: include: the grid has 200,006 trials (batch_sizes 1,000 x seeds 100 x norms 2), {TOO_MANY}",
    ),
    "about of a number": ("about: 5", "5: about: expected text of at most 2000 characters, found 5"),
    "unknown attack": ("attacks: [nois]", "5: attacks[0]: no attack is called 'nois'; did you mean 'noise'?"),
    "two names": (
        "attacks: [{bim: {}, noise: {}}]",
        "5: attacks[0]: expected the name of one attack, or one name with its parameters (`name: {parameter: "
        "value}`), found a mapping",
    ),
    "eps above one": ("attacks:\n  - bim: {eps: [1/255, 8]}", f"6: attacks[0].bim.eps: {PIXELS}, found 8"),
    "std of zero": ("attacks: [noise: {std: 0}]", f"5: attacks[0].noise.std: {PIXELS}, found 0"),
    "truth for steps": (
        "attacks: [bim: {steps: true}]",
        "5: attacks[0].bim.steps: expected a whole number from 1 to 10000, found true",
    ),
    "list for parameters": (
        "attacks: [bim: [1]]",
        "5: attacks[0].bim: expected parameters in braces or none ({bim}), found a list",
    ),
    "unknown parameter": (
        "attacks: [bim: {epss: 0.1}]",
        "5: attacks[0].bim.epss: attack 'bim' has no parameter 'epss'; it has {bim}; did you mean 'eps'?",
    ),
    "attack twice": (
        "attacks: [bim: {eps: 0.1}, bim: {eps: 0.2}]",
        "5: attacks[1]: bim stands here twice (also attacks[0]); list all its sizes in one entry",
    ),
    "unknown measure": (
        "measures: weight_norm",
        "5: measures: no measure is called 'weight_norm'; did you mean 'weight-norm'?",
    ),
    "measure twice": (
        "measures: [weight-norm, weight-norm: {every: 2}]",
        "5: measures[1]: weight-norm stands here twice (also measures[0]); write it once",
    ),
    "measure never": (
        "measures: [weight-norm: {every: 0}]",
        "5: measures[0].weight-norm.every: expected a whole number of at least 1, found 0",
    ),
    "time": (
        "limits: {time: 30x}",
        "5: limits.time: expected a time such as 90s, 30m, 2h or a number of seconds above 0, found '30x'",
    ),
    "no time": (
        "limits: {time: 0}",
        "5: limits.time: expected a time such as 90s, 30m, 2h or a number of seconds above 0, found 0",
    ),
    "gpu": ("limits: {gpu: all}", "5: limits.gpu: expected a number from 0 to 64 or 'auto', found 'all'"),
    "engine": ("limits: {engine: fast}", "5: limits.engine: expected one of auto, graph, compile, eager, found 'fast'"),
    "half a cpu": ("limits: {cpu: 0.5}", "5: limits.cpu: expected a whole number from 1 to 4096, found 0.5"),
    "exclude nothing": (
        "exclude: [{norm: bn, batch_size: [1, 2]}]",
        "5: exclude[0]: fits no trial: no batch_size is 1, 2; there is 128",
    ),
    "exclude everything": ("exclude: {norm: [bn, gn]}", "5: exclude: leaves no trial"),
    "override of nothing": (
        "overrides: [{when: {norm: ln}, set: {lr: 1}}]",
        "5: overrides[0]: fits no trial: no norm is ln; there are bn, gn",
    ),
    "override of no pair": (
        "include: {norm: ln, batch_size: 32}\noverrides: [{when: {norm: gn, batch_size: 32}, set: {lr: 1}}]",
        "6: overrides[0]: fits no trial: each of its values occurs, but not together",
    ),
    "override without set": ("overrides: [{when: {norm: bn}}]", "5: overrides[0]: the key 'set' is missing"),
    "axis in set": (
        "overrides: {when: {norm: bn}, set: {lr: [1, 2]}}",
        "5: overrides.set.lr: expected a number above 0 and at most 1000, found a list",
    ),
    "norm in set": (
        "overrides: [{when: {norm: bn}, set: {norm: gn}}]",
        f"5: overrides[0].set.norm: unknown key; allowed are {TRAIN}, batch_size",
    ),
    "empty set": (
        "overrides: [{when: {norm: bn}, set: {}}]",
        f"5: overrides[0].set: expected at least one key of {TRAIN}, batch_size, found none",
    ),
    "nothing tuned": (
        "tune: {scheduler: asha}",
        f"5: tune: expected at least one setting with the values to choose from, such as lr: [0.01, 0.1]; {TUNED}",
    ),
    "tune of nothing": ("tune:", f"5: tune: expected a mapping of keys ({TUNE}), found nothing"),
    "one value to tune": (
        "tune: {lr: 0.1}",
        "5: tune.lr: expected two values or more to choose from, found one; a fixed value is written train.lr",
    ),
    "the same value twice": (
        "tune: {lr: [0.1, 1/10]}",
        "5: tune.lr: expected two values or more to choose from, found one; a fixed value is written train.lr",
    ),
    "tuned wrongly": (
        "tune: {lr: [0.1, high]}",
        "5: tune.lr[1]: expected a number above 0 and at most 1000, found 'high'",
    ),
    "no setting": ("tune: {lrs: [0.1, 0.2]}", f"5: tune.lrs: unknown key; allowed are {TUNE}; did you mean 'lr'?"),
    "not to be tuned": ("tune: {epochs: [1, 2], lr: [0.1, 0.2]}", f"5: tune.epochs: unknown key; allowed are {TUNE}"),
    "tuned on test images": ("tune: {lr: [0.1, 0.2], on: test}", "5: tune.on: expected 'validation', found 'test'"),
    "unknown scheduler": (
        "tune: {lr: [0.1, 0.2], scheduler: ashaa}",
        "5: tune.scheduler: expected one of asha, none, found 'ashaa'; did you mean 'asha'?",
    ),
    "tuned per setting": (
        "tune: {lr: [0.1, 0.2], per: [norm, lr]}",
        "5: tune.per[1]: lr is chosen by this very search",
    ),
    "asha and seeds": (
        "tune: {lr: [0.1, 0.2], scheduler: asha, seeds: 2}",
        "5: tune.seeds: asha takes one seed, found 2: it would stop some seeds of a setting and not others",
    ),
    "tuned and given": (
        "train: {lr: 0.1}\ntune: {lr: [0.1, 0.2]}",
        "5: train.lr: tune chooses lr too; write it in one of the two places",
    ),
    "tuned and overridden": (
        "tune: {lr: [0.1, 0.2]}\noverrides: [{when: {norm: bn}, set: {lr: 0.3}}]",
        "6: overrides[0].set.lr: tune chooses lr, so that no rule can name it",
    ),
    "tuned and excluded": (
        "tune: {lr: [0.2, 0.3]}\nexclude: {lr: 0.1}",
        "6: exclude.lr: tune chooses lr, so that no rule can name it",
    ),
    "little left to train on": (
        "tune: {lr: [0.1, 0.2], validation: 0.95}",
        "5: tune: a batch of 128 is larger than the 72 training images of digits beside the 1,365 held out, as "
        "candidates hold out 0.95",
    ),
    "too many candidates": (
        "seeds: 49999\ntune: {lr: [1, 2], seeds: 2}",
        "6: tune: 8 candidates beside 99,998 final trials are more than the 100,000 trials that a suite may have",
    ),
    "too many rules": (f"exclude: {[{'seed': 0}] * 201}", "5: exclude: expected at most 200 values, found 201"),
}

#: Lines 1 to 4 of BASE, one replaced.
REPLACED = {
    "name is a path": (1, "suite: ../x", f"suite: {NAME} '../x'"),
    "name in capitals": (1, "suite: CIFAR", f"suite: {NAME} 'CIFAR'"),
    "name is a number": (1, "suite: 3", f"suite: {NAME} 3"),
    "name too long": (1, f"suite: {'x' * 65}", f"suite: {NAME} '{'x' * 49}... (67 characters)"),
    "data as a word": (2, "data: digits", f"data: expected a mapping of keys ({DATA}), found 'digits'"),
    "no dataset": (2, "data: {validation: 0.1}", "data: the key 'dataset' is missing"),
    "hub without owner": (2, "data: {dataset: 'hub:mnist'}", f"data.dataset: {WHERE} 'hub:mnist'"),
    "address": (2, "data: {dataset: 'http://x/y'}", f"data.dataset: {WHERE} 'http://x/y'"),
    "augmentation": (2, "data: {dataset: digits, augment: [flip, crops]}", "data.augment[1]: expected one of crop, "
                                                                           "flip, found 'crops'; did you mean 'crop'?"),
    "all held out": (2, "data: {dataset: digits, validation: 1}", "data.validation: expected a number of at least 0 "
                                                                  "and below 1, found 1"),
    "small batch left": (
        2,
        "data: {dataset: digits, train_examples: 140, validation: 0.1}",
        "batch_sizes: a batch of 128 is larger than the 126 training images of digits beside the 14 held out",
    ),
    "more than there is": (2, "data: {dataset: digits, test_examples: 361}", "data.test_examples: 361 images asked "
                                                                             "for; digits has 360"),
    "mean and std": (
        2,
        "data: {dataset: a, mean: [0.5, 0.5], std: 1/4}",
        "data.std: 2 values for the mean but 1 for the standard deviation; expected one a channel in both",
    ),
    "std of zero": (2, "data: {dataset: a, std: 0}", "data.std: expected a number above 0, found 0"),
    "unknown model": (3, "models: resnet1", "models: no architecture is called 'resnet1'; did you mean 'resnet18'?"),
    "model as a number": (3, "models: 18", "models: expected the name of an architecture, or a mapping of name, "
                                           "stem and kwargs, found 18"),
    "model without a name": (3, "models: {stem: native}", "models: the key 'name' is missing"),
    "stem": (3, "models: {name: resnet18, stem: imagenet}", "models.stem: expected one of cifar, native, found "
                                                            "'imagenet'"),
    "reserved argument": (
        3,
        "models: {name: resnet18, kwargs: {checkpoint_path: x}}",
        "models.kwargs.checkpoint_path: the benchmark sets 'checkpoint_path' itself",
    ),
    "arguments as a list": (3, "models: {name: resnet18, kwargs: [a]}", "models.kwargs: expected a mapping of "
                                                                        "arguments for timm.create_model, found "
                                                                        "a list"),
    "no norms": (4, "norms: []", "norms: expected at least one value, found an empty list"),
    "unknown norm": (4, "norms: [bn, gnn]", "norms[1]: no norm is called 'gnn'; did you mean 'gn'?"),
    "norm as a mapping": (4, "norms: {gn: {groups: 8}}", "norms: expected a norm such as bn, gn[groups=8] or ws+gn, "
                                                         "found a mapping"),
    "two norms joined": (4, "norms: bn+gn", "norms: 'bn+gn': '+' joins one weight method, one activation method and "
                                            "one modifier, found 0, 2 and 0"),
    "a modifier of nothing": (4, "norms: [noise]", "norms[0]: 'noise': noise modifies an activation method, which "
                                                   "must be named, for example bn+noise"),
    "norms missing": (4, "", "the key 'norms' is missing"),
}  # fmt: skip
