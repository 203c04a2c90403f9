"""Draw the pictures of the documentation, all or those named: `python docs/pictures/draw.py [NAME ...]`; needs matplotlib."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from drp.fex import (
    AzimuthalIntegrator,
    Compressor,
    Directions,
    EdgeFinder,
    Histogram,
    PeakFinder8,
    PhotonFinder,
    Poni,
    Profile,
    PulseFinder,
    Rebin,
    Roi,
    RoiStatistics,
    SparseBragg,
    decompress,
    radius_in_pixels,
    sector,
)
from drp.fex.directions import UNITS
from drp.source.simoptions import parse
from drp.source.timetool import TimeToolTruth
from drp.source.truth import SimTruth
from drp.source.waveforms import WaveformTruth

HERE = Path(__file__).parent


def timetool(figure: Any) -> None:
    """An edge: the line and its background, the signal, the correlation."""
    truth = TimeToolTruth(parse("timetool"))
    finder = EdgeFinder((truth.samples,))
    finder.add_background(truth.raw(0))
    line = truth.raw(4)
    edge, true = finder.find(line), truth.edge(4)
    assert finder.background is not None
    assert true is not None
    above, middle, below = figure.subplots(3, 1, sharex=True)
    above.plot(finder.background, color="0.6", label="background")
    above.plot(line, lw=0.8, label="line")
    above.set_ylabel("ADU")
    middle.plot(finder.signal, lw=0.8)
    middle.set_ylabel("signal")
    first = (truth.samples - len(finder.correlation)) / 2
    below.plot(first + np.arange(len(finder.correlation)), finder.correlation)
    below.axvline(
        edge.position, color="C3", lw=1, label=f"found at {edge.position:.2f}, is at {true.position:.2f}"
    )
    below.set(ylabel="correlation", xlabel="pixel")
    above.legend(loc="lower left")
    below.legend(loc="upper right")


def digitizer_peaks(figure: Any) -> None:
    """Two pulses: the waveform, and b with its crossings."""
    truth = WaveformTruth(parse("digitizer:4000,pulses=20,rise=8,seed=3"))
    finder = PulseFinder(truth.samples, 40.0, baseline=truth.baseline)
    v = truth.raw(0) - truth.baseline
    b = v[:-4] - 0.5 * v[4:]
    found = finder.find(truth.raw(0))
    shown = slice(int(found.samples[0]) - 20, int(found.samples[1]) + 40)
    x = np.arange(truth.samples)[shown]
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(x, v[shown], ".-", lw=0.8)
    below.plot(x, b[shown], ".-", lw=0.8)
    below.axhline(0, color="0.6", lw=0.8)
    for at in found.samples[:2]:
        for axes in (above, below):
            axes.axvline(at, color="C3", lw=1)
    above.set_ylabel("v, ADU")
    below.set(ylabel="b, ADU", xlabel="sample")


def statistics(figure: Any) -> None:
    """A frame with a region and a sector, the radial profile of all and of the sector, the histogram of all and of the region."""
    figure.set_size_inches(9, 4)
    truth = SimTruth(parse("epixhr,segments=5,ring=0.5,peaks=20"))
    x, y = truth.positions_um
    frame = ((truth.raw(0) & 0x3FFF) - truth.pedestals[0]) / truth.gains[0]
    roi, angles = Roi("40:110,300:520"), (-60.0, 40.0)
    image, radial, counts = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
    across, down = x[0, 0] / 1e3, y[:, :, 0].ravel() / 1e3  # the panels lie one above the other
    seen = Rebin(frame.shape, (8, 8), "mean").of(frame).reshape(-1, len(across) // 8)
    shown = image.pcolormesh(across[4::8], down[4::8], seen, vmin=-0.5, vmax=6, rasterized=True)
    figure.colorbar(shown, ax=image, label="keV", orientation="horizontal")
    inside = sector(x, y, (0, 35e3), angles).reshape(-1, len(across))
    image.contour(across, down, inside, [0.5], colors="C1")
    for panel in range(len(x)):
        rows, cols = roi.slices(x.shape[1:])
        left, top = x[panel, rows.start, cols.start] / 1e3, y[panel, rows.start, 0] / 1e3
        size = (cols.stop - cols.start) * 0.1, (rows.stop - rows.start) * 0.1
        image.add_patch(plt.Rectangle((left, top), *size, fill=False, color="C3"))
    image.set(xlabel="x, mm", ylabel="y, mm", aspect="equal")
    for limits, color in ((-180.0, 180.0), "0.4"), (angles, "C1"):
        profile = Profile.radial(x, y, 150, (0, 35e3), limits)
        radial.plot(profile.centers / 1e3, profile.of(frame).mean, color=color, lw=0.9)
    radial.set(xlabel="radius, mm", ylabel="mean, keV")
    for region, color, label in (None, "0.4", "all"), (roi, "C3", "region"):
        histogram = Histogram(frame.shape, 160, (-5, 35), region)
        counts.stairs(histogram.of(frame).counts, histogram.edges, color=color, label=label)
    whole = RoiStatistics(frame.shape, roi).of(frame).whole
    counts.set(
        xlabel="keV", ylabel="pixels", yscale="log", title=f"region: {whole.mean:.2f} ± {whole.std:.2f} keV"
    )
    counts.legend()


def photons(figure: Any) -> None:
    """Energies of pixels with thresholds and photon peaks, and a part of the frame with what is found in it."""
    figure.set_size_inches(9, 4)
    truth = SimTruth(parse("epixhr,segments=4,photons=0.1,ring=off,peaks=0,sharing=0.2"))
    energy = truth.options.energy_kev
    frame = (truth.raw(0) - truth.pedestals[0]) / truth.gains[0]
    found = {
        "single": PhotonFinder(truth.shape, energy).find(frame),
        "droplet": PhotonFinder(truth.shape, energy, method="droplet", spectrum=(170, 3.4)).find(frame),
    }
    left, right = figure.subplots(1, 2)
    edges = np.linspace(0, 3.4, 171)
    left.hist(frame.ravel() / energy, edges, histtype="stepfilled", color="0.7", log=True, label="pixels")
    left.stairs(found["droplet"].spectrum, edges, color="C0", label="droplets")
    left.axvline(0.1, color="0.3", lw=1, label="low: of a droplet")
    for number in range(1, 4):
        label = "threshold of 1, 2, 3 photons" if number == 1 else None
        left.axvline(number - 0.5, color="C3", ls="--", lw=1, label=label)
    left.set(xlabel="energy, photons", ylim=(1, None), xlim=(0, 3.4))
    left.legend()
    size = 16
    part = (0, slice(40, 40 + size), slice(40, 40 + size))
    shown = right.imshow(frame[part] / energy, cmap="Greys", vmin=0, vmax=1.5)
    figure.colorbar(shown, ax=right, label="energy, photons", shrink=0.8)
    for name, marker, edge in (("single", "s", "C3"), ("droplet", "o", "C0")):
        rows, cols = np.nonzero(found[name].map[part])
        right.scatter(cols, rows, 70, marker=marker, facecolors="none", edgecolors=edge, label=name)
    right.set(xlabel="column", ylabel="row")
    right.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)


def azimuthal(figure: Any) -> None:
    """A frame and its curve, with the mean of the simulator."""
    truth = SimTruth(parse("epixhr"))
    x, y = truth.positions_um
    directions = Directions.of_coords((y, x, np.full_like(x, -1e5)), Poni.of_energy(truth.options.energy_kev))
    integrator = AzimuthalIntegrator(directions, 300, unit="q_A^-1", error_model="azimuthal")
    energy = np.float32(truth.options.energy_kev)
    true = integrator.integrate(truth.mean_photons * energy).intensity.copy()
    frame = truth.photons(0).astype(np.float32) * energy
    curve = integrator.integrate(frame)
    left, right = figure.subplots(1, 2)
    row, col = (np.rint((one - one.min()) / truth.camera.pixel_um).astype(int) for one in (y, x))
    image = np.full((row.max() + 1, col.max() + 1), np.nan)
    image[row, col] = frame
    rows, cols = (size // 16 * 16 for size in image.shape)
    coarse = image[:rows, :cols].reshape(rows // 16, 16, cols // 16, 16).mean(axis=(1, 3))
    left.imshow(coarse, vmin=0, vmax=6, cmap="gray_r", interpolation="nearest")
    left.set(xticks=[], yticks=[], title="one event")
    assert curve.sigma is not None
    right.fill_between(
        curve.radial, curve.intensity - curve.sigma, curve.intensity + curve.sigma, color="C0", alpha=0.4
    )
    right.plot(curve.radial, curve.intensity, lw=0.8, label="its curve")
    right.plot(curve.radial, true, color="C3", lw=1, label="mean, without peaks")
    right.set(xlabel=UNITS["q_A^-1"].label, ylabel="keV per pixel", ylim=(0, 11))
    right.legend()


def compression(figure: Any) -> None:
    """The pixels of a row before and after, and what bounds make of the size."""
    figure.set_size_inches(9, 3.6)
    truth = SimTruth(parse("epixhr,segments=3,ring=0.5,peaks=20"))
    frame = ((truth.raw(0) & 0x3FFF) - truth.pedestals[0]) / truth.gains[0]
    bounds, part = np.geomspace(0.01, 0.5, 10), (1, 72, slice(480, 540))
    left, right = figure.subplots(1, 2)
    found = Compressor(frame.shape, bound=0.4).of(frame)
    after = decompress(found.data, found.sizes, found.shape, found.dtype, found.codec, found.bound)
    column = np.arange(480, 540)
    left.fill_between(
        column, frame[part] - 0.4, frame[part] + 0.4, color="0.8", step="mid", label="before, ± 0.4 keV"
    )
    left.plot(column, after[part], "C3.", ms=3, label="after")
    left.set(xlabel="column", ylabel="energy of a pixel, keV")
    left.legend()
    for name, one in ("simulated frame", frame), ("the same, photons only", np.where(frame > 5, frame, 0)):
        ratio = [one.nbytes / len(Compressor(one.shape, bound=bound).of(one).data) for bound in bounds]
        right.loglog(bounds, ratio, ".-", label=name)
    right.set(xlabel="largest error, keV", ylabel="times smaller than float32")
    right.legend()


def sparse_bragg(figure: Any) -> None:
    """A part of a frame, its background by radius, and the same part made again."""
    figure.set_size_inches(8.5, 3.3)
    truth = SimTruth(parse("epixhr,segments=2,ring=1,peaks=60,seed=5"))
    x, y = truth.positions_um
    radius = radius_in_pixels(y, x)
    raw = truth.raw(0)
    ranges = (raw >> 15).astype(int)
    pedestals, gains = (np.choose(ranges, one) for one in (truth.pedestals, truth.gains))
    frame = ((raw & 0x3FFF) - pedestals) / gains
    found = SparseBragg(radius, min_snr=5.0, adc_thresh=20.0).find(frame.astype(np.float32))
    bins = np.arange(len(found.background_avg))
    full = np.interp(radius, bins, found.background_avg)
    full.flat[found.index] = found.intensity
    panels = figure.subplots(1, 3, width_ratios=(1, 1.1, 1))
    part = (0, slice(30, 114), slice(300, 384))
    kept = 8 * (len(found.index) + len(bins)) / raw.nbytes
    for axes, shown, title in (
        (panels[0], frame, "calibrated"),
        (panels[2], full, f"made of {100 * kept:.1f} % of the bytes"),
    ):
        axes.imshow(shown[part], vmin=0, vmax=40, cmap="gray_r", interpolation="nearest")
        axes.set(xticks=[], yticks=[], title=title)
    mean, deviation = found.background_avg, found.background_std
    panels[1].fill_between(bins, mean - deviation, mean + deviation, color="C0", alpha=0.3, label="deviation")
    panels[1].plot(bins, mean, color="C0", label="mean")
    panels[1].scatter(
        radius.flat[found.index], found.intensity, 3, color="C3", rasterized=True, label="bright pixels"
    )
    panels[1].set(xlabel="radius (pixels)", ylabel="keV", ylim=(-15, 120))
    panels[1].legend(loc="upper right")


def peakfinder8(figure: Any) -> None:
    """A part of an event with the peaks found in it, and the radial background beside the pixels."""
    truth = SimTruth(parse("epixhr,segments=8,photons=0.02,peaks=40,ring=0.5"))
    x, y = truth.positions_um
    radius = radius_in_pixels(x, y)
    frame = (truth.raw(0) - truth.pedestals[0]) / truth.gains[0]
    frame[truth.raw(0) >= 1 << 15] = np.nan  # of another gain range
    finder = PeakFinder8(radius, adc_thresh=30, min_snr=6)
    peaks = finder.find(frame)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    left.imshow(frame[1, :, :200], vmin=0, vmax=60, cmap="gray_r", interpolation="nearest")
    here = (peaks.segment == 1) & (peaks.col < 200)
    left.plot(peaks.col[here], peaks.row[here], "o", ms=12, mfc="none", mec="C3")
    left.set(xticks=[], yticks=[], title="a part of a segment, peaks")
    some = np.random.default_rng(1).choice(frame.size, 20000, replace=False)
    right.plot(radius.reshape(-1)[some], frame.reshape(-1)[some], ",", color="0.6")
    background = finder.background
    right.plot(background.mean, lw=1, label="mean")
    right.plot(background.mean + background.deviation, lw=1, label="mean + deviation")
    right.plot(background.threshold, lw=1, color="C3", label="threshold")
    at = radius[peaks.segment, peaks.row, peaks.col]
    right.plot(at, frame[peaks.segment, peaks.row, peaks.col], "o", ms=5, mfc="none", mec="C3", label="peaks")
    right.set(xlabel="radius, pixels", ylabel="keV", ylim=(-3, 120))
    right.legend(loc="upper right")


PICTURES: dict[str, Callable[[Any], None]] = {
    "sparse_bragg": sparse_bragg,
    "azimuthal": azimuthal,
    "compression": compression,
    "timetool": timetool,
    "digitizer_peaks": digitizer_peaks,
    "statistics": statistics,
    "peakfinder8": peakfinder8,
    "photons": photons,
}


def main(names: list[str]) -> None:
    """Draw."""
    for name in names or PICTURES:
        figure = plt.figure(figsize=(7, 4), layout="constrained")
        PICTURES[name](figure)
        figure.savefig(HERE / f"{name}.png", dpi=90, metadata={"Software": None})
        plt.close(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
