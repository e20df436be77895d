"""The batches of an epoch, drawn at once: those of a loop that draws them one by one, to the last bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from normbench.lab.batches import Batch, augmented, epoch
from torch import nn

from tests.lab import naive

CPU = torch.device("cpu")


def _epoch(
    count: int, size: int, *, drop_last: bool = False, augment: tuple[str, ...] = (), seeds: bool = False
) -> list[Batch]:
    return list(
        epoch(
            count,
            size,
            drop_last=drop_last,
            augment=augment,
            side=16,
            seeds=seeds,
            generator=torch.Generator().manual_seed(count),
            device=CPU,
        )
    )


@given(
    st.integers(1, 100),
    st.integers(1, 40),
    st.booleans(),
    st.sampled_from([(), ("crop",), ("flip",), ("flip", "crop")]),
    st.booleans(),
)
def test_they_are_those_of_a_loop(
    count: int, size: int, drop_last: bool, augment: tuple[str, ...], seeds: bool
) -> None:
    images = torch.arange(count * 16 * 16, dtype=torch.float32).view(count, 1, 16, 16)
    found = _epoch(count, size, drop_last=drop_last, augment=augment, seeds=seeds)
    generator = torch.Generator().manual_seed(count)
    expected = list[torch.Tensor]()
    for index in naive.batches(count, size, drop_last=drop_last, generator=generator):
        expected.append(naive.augment(images[index], augment, generator))
        batch = found[len(expected) - 1]
        assert torch.equal(batch.index, index)
        assert torch.equal(augmented(images[batch.index], batch), expected[-1])
        drawn = torch.randint(0, 2**62, (len(index),), generator=generator).tolist() if seeds else []
        assert list(batch.seeds) == drawn
    assert len(found) == len(expected)


@given(st.integers(1, 200), st.integers(1, 200), st.booleans())
def test_an_epoch_visits_every_image_once(count: int, size: int, drop_last: bool) -> None:
    chosen = [b.index for b in _epoch(count, size, drop_last=drop_last)]
    flat = torch.cat(chosen).tolist() if chosen else []
    assert len(set(flat)) == len(flat) == (count // size * size if drop_last else count)
    assert all(len(c) == size for c in chosen[:-1])


@pytest.mark.parametrize("augment", [(), ("flip",), ("crop",)])
def test_augmentation_only_moves_and_mirrors(augment: tuple[str, ...]) -> None:
    (batch,) = _epoch(64, 64, augment=augment)
    images = torch.rand(64, 3, 16, 16)
    found = augmented(images, batch)
    if not augment:
        assert torch.equal(found, images)
    elif augment == ("flip",):
        same = (found == images).flatten(1).all(1)
        mirrored = (found == images.flip(3)).flatten(1).all(1)
        assert (same | mirrored).all()
        assert 10 < int(mirrored.sum()) < 54
    else:
        padded = nn.functional.pad(images, (2, 2, 2, 2))
        windows = padded.unfold(2, 16, 1).unfold(3, 16, 1).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
        # every position of every image
        assert (windows == found[:, None]).flatten(2).all(2).any(1).all()


def test_what_is_drawn_is_copied_to_the_device_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three copies an epoch, however many batches it has."""
    copied = []
    monkeypatch.setattr("normbench.lab.batches._sent", lambda drawn, device: copied.append(drawn.shape) or drawn)
    assert len(_epoch(64, 4, augment=("crop", "flip"))) == 16
    assert copied == [(64,), (2, 64), (64,)]
