import numpy as np
import numpy.typing as npt

_F32 = npt.NDArray[np.float32]
_U16 = npt.NDArray[np.uint16]

def count_photons(mean: _F32, none: _F32, key: int, out: _U16) -> None: ...
def digitize(
    charge: _F32,
    photon_kev: float,
    zero: _F32,
    gain: _F32,
    rms: _F32,
    noise: _F32,
    key: int,
    range_bits: _U16,
    top: float,
    margin: float,
    out: _U16,
) -> None: ...
