"""The GPU's package: what it imports, what it says where there is no GPU, and what its kernels are compiled to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("ptx_of_kernels.py")
REAL = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**REAL, "PYTHONPATH": os.pathsep.join(sys.path), **variables}
    return subprocess.run(
        [sys.executable, *arguments], check=False, timeout=100, env=env, capture_output=True, text=True
    )


def test_finders_of_the_cpu_do_not_import_the_gpu() -> None:
    code = "import sys, drp.fex; from drp.fex import *; raise SystemExit('numba.cuda' in sys.modules)"
    assert python("-c", code).returncode == 0


def test_a_machine_without_a_gpu_is_told_what_is_missing() -> None:
    code = (
        "import os\n"
        "from tests.fex.gpu import correction_of\n"
        "from drp.fex import FexError, PhotonFinder\n"
        "from drp.fex.cuda import GpuPhotonFinder\n"
        "try:\n"
        "    GpuPhotonFinder(PhotonFinder((1, 4, 8), 8.0), correction_of((1, 4, 8), dettype='camera'))\n"
        "except FexError as error:\n"
        "    print(error)\n"
    )
    done = python("-c", code, CUDA_VISIBLE_DEVICES="")
    assert "no CUDA device is found" in done.stdout, done.stderr
    assert "pip install 'drp[cuda]'" in done.stdout


def test_a_numba_without_cuda_is_told_what_to_install() -> None:
    done = python("-c", "import sys; sys.modules['numba.cuda'] = None; import drp.fex.cuda")
    assert "ImportError: this numba has no CUDA target of its own; pip install 'drp[cuda]'" in done.stderr


@pytest.mark.real
def test_no_kernel_rounds_otherwise_than_a_cpu(tmp_path: Path) -> None:
    wheel = Path(next(iter(pytest.importorskip("nvidia.cu13").__path__)))
    # As a toolkit lies, which is how numba's own CUDA target looks for it.
    (tmp_path / "nvvm" / "lib64").mkdir(parents=True)
    for library in (wheel / "lib").glob("libnvvm.so.*"):
        (tmp_path / "nvvm" / "lib64" / library.name).symlink_to(library)
    (tmp_path / "nvvm" / "libdevice").symlink_to(wheel / "nvvm" / "libdevice")
    done = python(str(SCRIPT), CUDA_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in done.stdout.splitlines()]
    assert "_peak_kernels.search" in [kernel for kernel, *_ in told]
    assert [line for line in told if len(line) > 1] == []
