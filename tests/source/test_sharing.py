"""Charge that is shared between pixels: how much each gets, and that none is made."""

from __future__ import annotations

import math

import numpy as np
import pytest

from drp.core.errors import SourceError
from drp.source.sharing import share
from drp.source.simoptions import parse
from drp.source.truth import SimTruth


def test_a_pixel_keeps_what_the_clouds_of_its_photons_do_not_give_to_the_next() -> None:
    photons = np.zeros((2, 9, 11), np.uint16)
    photons[1, 4, 5] = 60_000
    sigma = 0.2
    charge = share(photons, sigma, np.random.default_rng(1)) / 60_000
    assert charge.sum() == pytest.approx(1, rel=1e-4)
    # The mean over all places in a pixel of what falls beyond one border of it is sigma / sqrt(2 pi).
    beyond = sigma / math.sqrt(2 * math.pi)
    along = np.array([beyond, 1 - 2 * beyond, beyond])
    assert np.allclose(charge[1, 3:6, 4:7], np.outer(along, along), atol=0.003)
    charge[1, 3:6, 4:7] = 0
    assert not charge.any()


def test_charge_beyond_the_edge_of_a_segment_is_lost() -> None:
    photons = np.zeros((2, 1, 1), np.uint16)
    photons[0] = 50_000
    charge = share(photons, 0.3, np.random.default_rng(1))
    assert charge[1, 0, 0] == 0
    assert charge[0, 0, 0] / 50_000 == pytest.approx((1 - 2 * 0.3 / math.sqrt(2 * math.pi)) ** 2, rel=0.01)


def test_the_truth_of_shared_charge_is_where_photons_fell() -> None:
    alone, shared = (SimTruth(parse(f"epixhr,segments=1,peaks=3,sharing={sigma}")) for sigma in ("0", "0.25"))
    assert np.array_equal(alone.photons(2), shared.photons(2))
    assert np.array_equal(alone.charge(2), alone.photons(2))
    assert shared.charge(2).sum() == pytest.approx(shared.photons(2).sum(), rel=0.01)
    assert not np.array_equal(shared.charge(2), alone.charge(2))
    assert np.array_equal(shared.raw(2), SimTruth(parse("epixhr,segments=1,peaks=3,sharing=0.25")).raw(2))
    assert not np.array_equal(shared.raw(2), alone.raw(2))


def test_a_cloud_wider_than_the_next_pixel_is_refused() -> None:
    with pytest.raises(SourceError, match="sharing"):
        parse("epixhr,sharing=0.5")
