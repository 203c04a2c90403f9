"""Real psana reads its constants from our service, and our client reads what psana writes for LCLS's."""

import hashlib
import importlib.util
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_service
import numpy as np
import pytest
from calib_command import Served, served
from numpy.typing import NDArray

from calib import Constant, DetectorId, detector_in
from calib.service import Service, documents
from calib.store import Store, open_store
from tests.real.conftest import Psana, psana_environment
from xtc import Config, Reader

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

ORACLE = Path(__file__).with_name("psana_constants.py")
FILES = {
    "jungfrau": ("test_jungfrau05M_calib.xtc2", "mfx101332224", 7),
    "epixquad": ("test_epix_calib.xtc2", "ueddaq02", 109),
}
Made = dict[str, dict[str, NDArray[Any]]]


@pytest.fixture(scope="module")
def made(test_data: Path) -> Made:
    """The seeded constants that the expected values were made with."""
    spec = importlib.util.spec_from_file_location("make_constants", test_data / "make_constants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    constants: Made = module.CONSTANTS
    return constants


def detector_of(xtc2_data: Path, name: str) -> DetectorId:
    return detector_in(Config(next(iter(Reader(xtc2_data / FILES[name][0])))), name)


def put(
    store: Store, detector: DetectorId, arrays: dict[str, NDArray[Any]], experiment: str, **runs: Any
) -> None:
    constants = [
        Constant.make(ctype, value, detector.serials, experiment=experiment, **runs)
        for ctype, value in arrays.items()
    ]
    store.put(detector, constants)


def ask(psana: Psana, *words: object, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [psana.python, ORACLE, *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        env=psana_environment() | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def read(
    psana: Psana, one: Served, path: Path, name: str, folder: Path
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    folder.mkdir(exist_ok=True)
    answer = ask(psana, path, name, folder, LCLS_CALIB_HTTP=one.url)
    return answer, {key: np.load(folder / f"{key}.npy") for key in answer["arrays"]}


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory, xtc2_data: Path, made: Made) -> Iterator[Served]:
    """A service with the seeded constants of both detectors, and older ones that must not be chosen."""
    folder = tmp_path_factory.mktemp("seeded")
    with open_store(str(folder / "calib.sqlite"), create=True) as store:
        for name, (_, experiment, run) in FILES.items():
            detector = detector_of(xtc2_data, name)
            wrong = {ctype: np.ones_like(value) for ctype, value in made[name].items()}
            put(store, detector, wrong, experiment, run=1)
            put(store, detector, made[name], experiment, run=run - 1, run_end=run + 1)
            put(store, detector, wrong, experiment, run=run + 1)
            put(store, detector, wrong, "another", run=run)
    with served(folder, folder / "calib.sqlite") as one:
        yield one


@pytest.mark.parametrize("name", FILES)
def test_psana_finds_our_constants_and_calibrates_with_them(
    psana: Psana, seeded: Served, made: Made, test_data: Path, tmp_path: Path, name: str
) -> None:
    file, experiment, run = FILES[name]
    answer, arrays = read(psana, seeded, test_data / "xtc2" / file, name, tmp_path)
    assert (answer["expt"], answer["runnum"]) == (experiment, run)
    for ctype in ("pedestals", "pixel_gain", "pixel_rms", "pixel_status"):
        assert arrays[ctype].dtype == made[name][ctype].dtype
        assert np.array_equal(arrays[ctype], made[name][ctype])
    expected = json.loads((test_data / "calib_expected.json").read_text())[name]
    for number, event in enumerate(expected):
        calib = arrays[f"calib{number}"]
        assert list(calib.shape) == event["calib"]["shape"]
        assert hashlib.sha256(calib.tobytes()).hexdigest() == event["calib"]["sha256"]


@pytest.mark.parametrize("name", FILES)
def test_our_client_finds_the_same(
    seeded: Served, made: Made, xtc2_data: Path, tmp_path: Path, name: str
) -> None:
    _, experiment, run = FILES[name]
    service = Service(seeded.url, cache=tmp_path / "cache")
    found = service.find(detector_of(xtc2_data, name), experiment, run)
    service.close()
    assert set(found) == set(made[name])
    assert all(np.array_equal(found[ctype].value, value) for ctype, value in made[name].items())


def test_psana_and_we_choose_the_same(psana: Psana, xtc2_data: Path, made: Made, tmp_path: Path) -> None:
    """Ranges that overlap, put in the same second; types of the detector alone; a detector that holds more panels."""
    file, experiment, run = FILES["jungfrau"]
    detector = detector_of(xtc2_data, "jungfrau")
    base = made["jungfrau"]["pedestals"]
    gain = made["jungfrau"]["pixel_gain"]
    status = made["jungfrau"]["pixel_status"]
    with open_store(str(tmp_path / "calib.sqlite"), create=True, now=lambda: 1.7e9) as store:
        for add, runs in enumerate(
            [
                {"run": 5},
                {"run": 5, "run_end": 90},
                {"run": 5, "run_end": 90},
                {"run": 4, "run_end": 7},
                {"run": 8},
            ]
        ):
            put(store, detector, {"pedestals": base + np.float32(add)}, experiment, **runs)
        for add in range(3):
            put(store, detector, {"pixel_gain": gain * np.float32(add + 1)}, "before", run=900 - add)
        put(store, detector, {"pixel_rms": gain, "pixel_status": status}, "", run=0)
        store.put(detector, [Constant.make("geometry", "# nothing yet\n", experiment="before", run=3)])
        ours = store.find(detector, experiment, run)
    with served(tmp_path, tmp_path / "calib.sqlite") as one:
        answer, arrays = read(psana, one, xtc2_data / file, "jungfrau", tmp_path / "arrays")
    assert answer["ctypes"] == sorted(ours)
    for ctype in ("pedestals", "pixel_gain", "pixel_rms", "pixel_status"):
        assert np.array_equal(arrays[ctype], ours[ctype].value), ctype
    assert np.array_equal(ours["pedestals"].value, base + np.float32(2))
    assert np.array_equal(ours["pixel_gain"].value, gain * np.float32(3))
    assert answer["geometry"] == ours["geometry"].value


def test_psana_and_our_rule_choose_the_same_of_many(psana: Psana, tmp_path: Path) -> None:
    """Random histories, many of them put in the same seconds: what psana takes from our documents is what the store takes."""
    random = np.random.default_rng(8)
    detector = DetectorId("cam", "jungfrau", ("a",))
    cases, ours = [], []
    for number in range(60):
        with open_store(str(tmp_path / f"{number}.sqlite"), create=True) as store:
            for at in range(int(random.integers(1, 9))):
                begin = int(random.integers(0, 12))
                end = None if random.random() < 0.4 else begin + int(random.integers(0, 8))
                one = Constant.make(
                    "pedestals",
                    np.full((1, 1, 1), at),
                    ("a",),
                    experiment="exp" if random.random() < 0.7 else "other",
                    run=begin,
                    run_end=end,
                    created=1.7e9 + int(random.integers(0, 3)) + at / 100,
                )
                store.put(detector, [one])
            run = int(random.integers(1, 16))
            own = documents.documents(store, "cdb_exp", "jungfrau_000001")
            whole = documents.documents(store, "cdb_jungfrau_000001", "jungfrau_000001")
            cases.append({"experiment": own, "detector": whole, "run": run})
            ours.append(store.choose(detector, "exp", run)["pedestals"].id)
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    psanas: Any = ask(psana, "--choose", tmp_path / "cases.json")
    assert [documents.document_number(own or latest) for own, latest in psanas] == ours


def find_with_psana(psana: Psana, one: Served, long_name: str, **environment: str) -> Any:
    """Return the shapes of what psana finds for a detector by its long name, and the databases it sees."""
    code = (
        "import sys, json; import psana.pscalib.calib.MDBWebUtils as wu; "
        "found = wu.calib_constants_all_types(sys.argv[1], exp='exp', run=3); "
        "print(json.dumps([wu.database_names(), wu.collection_names('cdb_exp'), "
        "found and {key: value.shape for key, (value, _) in found.items()}]))"
    )
    done = subprocess.run(
        [psana.python, "-c", code, long_name],
        capture_output=True,
        text=True,
        timeout=90,
        env=psana_environment() | {"LCLS_CALIB_HTTP": one.url} | environment,
        check=True,
    )
    return json.loads(done.stdout)


def test_psana_finds_a_panel_in_a_larger_detector_and_no_constants_where_there_are_none(
    psana: Psana, tmp_path: Path
) -> None:
    pair = DetectorId("cam", "jungfrau", ("a-1", "b-2"))
    with open_store(str(tmp_path / "calib.sqlite"), create=True) as store:
        put(store, pair, {"pedestals": np.zeros((3, 2, 4, 5))}, "exp", run=1)
    with served(tmp_path, tmp_path / "calib.sqlite") as one:
        databases = ["cdb_detnames", "cdb_exp", "cdb_jungfrau_000001"]
        whole = {"pedestals": [3, 2, 4, 5]}
        assert find_with_psana(psana, one, "jungfrau_b-2") == [databases, ["jungfrau_000001"], whole]
        with_web_token = find_with_psana(
            psana, one, "jungfrau_b-2", CALIB_JWT="any"
        )  # asks in the body of a GET
        assert with_web_token == [databases, ["jungfrau_000001"], whole]
        assert find_with_psana(psana, one, "jungfrau_c-3") == [databases, ["jungfrau_000001"], None]


def test_our_client_reads_what_psana_writes(psana: Psana, tmp_path: Path) -> None:
    written = ask(psana, "--document")
    answers: dict[str, fake_service.Answer | list[fake_service.Answer]] = {
        "/cdb_detnames/jungfrau": fake_service.reply([written["name"]]),
        "/cdb_exp/jungfrau_000001": fake_service.reply(
            [
                written[kind] | {"_id": f"6450604a3a7ab9e8b9dc63c{place}"}
                for place, kind in enumerate(("array", "text"))
            ]
        ),
        "/cdb_exp/gridfs/6450604a3a7ab9e8b9dc63b2": fake_service.reply(bytes.fromhex(written["array_bytes"])),
        "/cdb_exp/gridfs/6450604a3a7ab9e8b9dc63b3": fake_service.reply(bytes.fromhex(written["text_bytes"])),
    }
    with fake_service.running(answers) as lcls:
        service = Service(lcls.url, cache=tmp_path / "cache")
        found = service.find(DetectorId("cam", "jungfrau", ("b-2", "a-1")), "exp", 5)
        service.close()
    value = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    assert np.array_equal(found["pedestals"].value, value[:, ::-1])
    assert found["geometry"].value == "IP 0 \u00e9\n"
    assert found["pedestals"].run == 3
