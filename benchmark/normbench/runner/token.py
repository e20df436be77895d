"""The token of Ray: who does not have it can neither call nor read what Ray's ports offer.

On this machine each run makes its own, and only the environment of its processes holds it, which the kernel shows to
their user alone. Left to itself, Ray writes one token for all runs to `~/.ray/auth_token`, where others may read it.
For a cluster the token is its user's to give (see `deploy/README.md`).
"""

from __future__ import annotations

import secrets
from typing import Any

from normbench.errors import BenchError

_BYTES = 32
#: The first Ray that knows all of this; `pyproject.toml` says so too.
SINCE = "2.52"


class TokenError(BenchError):
    """This Ray takes no token, so whoever reaches its ports could run code; the message says what to install."""


def new_token() -> dict[str, str]:
    """The variables by which Ray takes a token of this run, and nobody without it."""
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(_BYTES)}


def read_again(*, required: bool) -> None:
    """Have Ray read mode and token from the environment once more: it keeps those of the run before, if this process
    had one. required: raise `TokenError` unless Ray now goes by a token.
    """
    import ray

    inner: Any = ray._raylet  # Ray offers no public call for this
    try:
        inner.Config.initialize("")
        inner.AuthenticationTokenLoader.instance().reset_cache()
        closed = inner.get_authentication_mode() == inner.AuthenticationMode.TOKEN
    except AttributeError:
        closed = False
    if required and not closed:
        raise TokenError(
            f"Ray {ray.__version__} takes no token, so that every user of this machine could run code as you: "
            f"install ray>={SINCE}"
        )
