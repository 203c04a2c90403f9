"""PONI files: versions, what they mean, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from drp.fex import FexError, Poni

NEW = """\
# Nota: C-Order, 1 refers to the Y axis, 2 to the X axis
# Calibration done on Fri Nov 20 10:00:00 2026
poni_version: 2.1
Detector: Detector
Detector_config: {"pixel1": 7.5e-05, "pixel2": 0.0001, "max_shape": [512, 1024], "orientation": 2}
Distance: 0.12
Poni1: 0.02
Poni2: 0.04
Rot1: 0.01
Rot2: -0.02
Rot3: 3e-08
Wavelength: 1.3e-10
"""
OLD = """\
PixelSize1: 0.0001
PixelSize2: 0.0002
Distance: 0.1
Poni1: 0.01
Poni2: 0.02
Rot1: 0.0
Rot2: 0.0
Rot3: 0.0
SplineFile: None
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "detector.poni"
    path.write_text(text)
    return path


def test_version_2_1_says_pixels_shape_and_orientation(tmp_path: Path) -> None:
    assert Poni.read(written(tmp_path, NEW)) == Poni(
        distance=0.12,
        poni1=0.02,
        poni2=0.04,
        rot1=0.01,
        rot2=-0.02,
        rot3=3e-08,
        wavelength=1.3e-10,
        detector="Detector",
        pixel_m=(7.5e-05, 1e-4),
        shape=(512, 1024),
        orientation=2,
    )


def test_version_1_says_pixels_beside_the_detector(tmp_path: Path) -> None:
    assert Poni.read(written(tmp_path, OLD)) == Poni(
        distance=0.1, poni1=0.01, poni2=0.02, pixel_m=(1e-4, 2e-4)
    )


def test_version_2_without_pixels_leaves_them_open(tmp_path: Path) -> None:
    text = OLD.replace(
        "PixelSize1: 0.0001\nPixelSize2: 0.0002", "poni_version: 2\nDetector: Pilatus1M\nDetector_config: {}"
    )
    poni = Poni.read(written(tmp_path, text))
    assert (poni.detector, poni.pixel_m, poni.shape, poni.orientation) == ("Pilatus1M", None, None, 3)


def test_of_several_in_one_file_the_last_counts(tmp_path: Path) -> None:
    assert Poni.read(written(tmp_path, NEW + NEW.replace("0.12", "0.5"))).distance == 0.5


def test_an_energy_is_a_wavelength() -> None:
    assert Poni.of_energy(12.398419843320026).wavelength == pytest.approx(1e-10)
    assert Poni.of_energy(None).wavelength is None
    with pytest.raises(FexError, match="-1 keV"):
        Poni.of_energy(-1)


def test_energies_in_ev_and_wavelengths_in_other_units_are_told() -> None:
    with pytest.raises(FexError, match=r"9500 keV.*energies in keV"):
        Poni.of_energy(9500)
    for wrong in (1.3, 0.13):  # Angstrom, nm
        with pytest.raises(FexError, match=rf"{wrong} m.*wavelengths in m"):
            Poni(wavelength=wrong)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there is no distance"),
        ("hello world\n", "line 1 is no entry"),
        (NEW.replace("2.1", "4"), "poni_version 4 is newer"),
        (NEW + "Parallax: True\n", "parallax"),
        (NEW.replace("0.12", "far"), "distance is no number: 'far'"),
        (NEW.replace("0.12", "nan"), "no finite numbers.*distance"),
        (NEW.replace("1.3e-10", "-1"), "wavelength"),
        (NEW.replace("7.5e-05", "0"), "pixel_m"),
        (NEW.replace('{"pixel1"', "{pixel1"), "detector_config is no JSON"),
        (NEW.replace("[512, 1024]", "[512]"), "max_shape"),
        (NEW.replace('"orientation": 2', '"orientation": 9'), "orientation 9"),
        (NEW.replace("7.5e-05", '"small"'), "pixel1 and pixel2 are no numbers"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_name(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(FexError, match=rf"detector\.poni.*{told}"):
        Poni.read(written(tmp_path, text))


def test_bytes_are_no_poni_file(tmp_path: Path) -> None:
    path = tmp_path / "frame.npy"
    path.write_bytes(b"\x93NUMPY\xff\xfe")
    with pytest.raises(FexError, match="is no PONI file"):
        Poni.read(path)
