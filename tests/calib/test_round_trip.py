"""There and back: darks are simulated, constants made of them, a lit run is calibrated with these, and the energies are those of the photons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sim_files import write_run

from calib.cli import main as calib
from drp import DataSource
from drp.source.simoptions import parse
from drp.source.truth import SimTruth

DARKS, LIT = 40, 8
DATA_BITS = 0x3FFF


@pytest.mark.parametrize(
    ("kind", "light"), [("epixhr,segments=2", "peaks=300"), ("jungfrau", "photons=0.5,peaks=300")]
)
def test_energies_come_back_within_the_noise_in_every_gain_range(
    kind: str, light: str, tmp_path: Path
) -> None:
    store = tmp_path / "calib.db"
    truth = SimTruth(parse(f"{kind},{light},frames={LIT}"))
    ranges = truth.camera.ranges
    dark = write_run(tmp_path / "dark.xtc2", f"sim:{kind},dark=on,frames={DARKS}", DARKS * len(ranges))
    lit = write_run(tmp_path / "lit.xtc2", f"sim:{kind},{light},frames={LIT},run=2,constants={store}", LIT)
    assert calib(["dark", str(dark), "--put", "--force", "--store", str(store)]) == 0
    bits = np.array([one.bits >> 14 for one in ranges])
    # A pedestal is the mean of so many frames, and so has noise of its own; rounding to whole ADU adds a little.
    noise = np.hypot(truth.rms, 12**-0.5) * np.sqrt(1 + 1 / DARKS) / np.abs(truth.gains)
    pulls: list[list[np.ndarray]] = [[] for _ in ranges]
    for run in DataSource(files=lit, calib=str(store)).runs():
        det = run.Detector(truth.options.detname, calib=True)
        assert det.raw._calibconst["pedestals"][1]["run"] == 1
        good = det.raw._mask() == 1
        assert good.mean() > 0.999
        for evt in run.events():
            energies = det.raw.calib(evt)
            kev = truth.photons(evt.index) * truth.options.energy_kev
            raw = det.raw.raw(evt).reshape(truth.shape)
            for number, pull in enumerate(pulls):
                mine = good & (raw >> 14 == bits[number]) & (raw & DATA_BITS < truth.camera.top)
                pull.append((energies - kev)[mine] / noise[number][mine])
    for name, pull in zip((one.name for one in ranges), pulls, strict=True):
        off = np.concatenate(pull)
        assert off.size > 30, name
        assert abs(float(off.mean())) < 5 / np.sqrt(off.size) + 0.02, name
        assert float(off.std()) == pytest.approx(1, abs=0.02 + 3 / np.sqrt(off.size)), name
        assert np.abs(off).max() < 6.5, name
        print(
            f"{kind} {name}: {off.size} pixels, mean {off.mean():+.4f}, spread {off.std():.4f} of the noise"
        )
