"""The page of claims."""

from __future__ import annotations

import html5lib
from normbench.claims._listed import chosen
from normbench.pages import build
from normbench.store.store import Store


def test_every_claim_has_a_row_with_its_verdict_and_number(tmp_path) -> None:
    folder = build(Store(tmp_path / "results"), tmp_path / "site").parent
    text = (folder / "claims.html").read_text()
    html5lib.HTMLParser(strict=True).parse(text)
    for claim in chosen():
        assert f'id="{claim.name}"' in text
    assert 'href="claims.html"' in (folder / "index.html").read_text()
    assert "fewer than" not in text
    assert "No results have the shape that it needs." in text
    assert "claimed: at most" in text
