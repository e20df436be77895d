"""Imported by fork servers alone (see `normbench.runner.warm`): everything that a trial imports, and what it computes
once a process.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import pkgutil

import foolbox  # noqa: F401
import torch

from normbench import attacks, measures, norms
from normbench.lab import trial_run  # noqa: F401
from normbench.norms import layers
from normbench.spec import architectures

for package in (norms, layers, attacks, measures):
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        with contextlib.suppress(Exception):  # a broken plug-in is reported by the trial that wants it
            importlib.import_module(module.name)
architectures.architectures()
with contextlib.suppress(RuntimeError), torch.no_grad():
    torch.set_num_threads(1)
    torch.nn.functional.conv2d(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3))
# Whatever stands now stands in every child. A child's first look for garbage would go through all of it, and copy the
# memory that it lies in: 0.3 s a trial.
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # the server's own end; libraries complain of what nobody collects
