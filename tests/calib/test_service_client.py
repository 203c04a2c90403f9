"""The client of a calibration service: what it finds, what it keeps, and how it meets services that are gone, slow, wrong or hostile."""

import json
import logging
import os
import pickle
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_service
import httpx
import numpy as np
import pytest
from fake_service import FakeService, reply

from calib import ConstantsMissing, DetectorId, ServiceError, open_source
from calib.service import Service, http
from calib.service.cache import PayloadCache
from calib.service.http import HttpClient

pytestmark = pytest.mark.timeout(60)

SERIALS = ("a-1", "b-2")
CAMERA = DetectorId("cam", "jungfrau", SERIALS)
VALUE = np.arange(3 * 2 * 4 * 5, dtype=np.float32).reshape(3, 2, 4, 5)
NAMES = "/cdb_detnames/jungfrau"
OF_DETECTOR = "/cdb_jungfrau_000001/jungfrau_000001"
OF_EXPERIMENT = "/cdb_exp/jungfrau_000001"
DATA = "/cdb_exp/gridfs/6450604a3a7ab9e8b9dc63b2"
QUICK = httpx.Timeout(0.5)


def document(**change: Any) -> dict[str, Any]:
    """Return a document as LCLS's service gives it."""
    return {
        "_id": "6450604c3a7ab9e8b9dc63b4",
        "experiment": "exp",
        "run": 5,
        "run_end": "end",
        "detector": "jungfrau_000001",
        "ctype": "pedestals",
        "version": "V2023",
        "comment": "no comment",
        "id_data": DATA.rpartition("/")[2],
        "data_type": "ndarray",
        "data_dtype": "float32",
        "data_size": str(VALUE.size),
        "data_ndim": "4",
        "data_shape": "(3, 2, 4, 5)",
    } | change


@pytest.fixture
def lcls() -> Iterator[FakeService]:
    """A service with one constant, as LCLS has it."""
    names = [{"_id": "0" * 24, "long": "jungfrau_a-1_b-2", "short": "jungfrau_000001", "seqnumber": 1}]
    answers: dict[str, fake_service.Answer | list[fake_service.Answer]] = {
        NAMES: reply(names),
        OF_EXPERIMENT: reply([document()]),
        DATA: reply(VALUE.tobytes()),
    }
    with fake_service.running(answers) as service:
        yield service


@pytest.fixture
def client(lcls: FakeService, tmp_path: Path) -> Iterator[Service]:
    """A client of it that does not wait between tries."""
    one = Service(lcls.url, cache=tmp_path / "cache", timeout=QUICK, sleep=lambda _: None)
    yield one
    one.close()


def test_constants_of_lcls_are_found(client: Service) -> None:
    found = client.find(CAMERA, "exp", 7)["pedestals"]
    assert np.array_equal(found.value, VALUE)
    assert (found.serials, found.experiment, found.run, found.run_end) == (SERIALS, "exp", 5, None)
    assert found.version == "V2023"
    assert not found.value.flags.writeable  # type: ignore[union-attr]


def test_panels_are_taken_by_serial(client: Service) -> None:
    part = client.find(DetectorId("cam", "jungfrau", ("b-2",)), "exp", 7)["pedestals"]
    assert np.array_equal(part.value, VALUE[:, 1:])
    with pytest.raises(ConstantsMissing, match="'c-3'"):
        client.find(DetectorId("cam", "jungfrau", ("b-2", "c-3")), "exp", 7)
    assert client.find(DetectorId("cam", "jungfrau", ("c-3",)), "exp", 7) == {}


def test_the_questions_are_those_of_lclss_clients(client: Service, lcls: FakeService) -> None:
    client.find(CAMERA, "exp", 7, ctypes=["pedestals"])
    assert lcls.asked[0] == ("/calib_ws/cdb_detnames/jungfrau", "{}")
    asked = {path: json.loads(query) for path, query in lcls.asked[1:3]}
    assert asked["/calib_ws/cdb_exp/jungfrau_000001"] == {
        "detector": "jungfrau_000001",
        "run": {"$lte": 7},
        "ctype": {"$in": ["pedestals"]},
    }
    client.find(CAMERA, None, 0)
    assert json.loads(lcls.asked[-1][1])["run"] == {"$lte": 9999}


def test_the_detectors_constants_fill_in(client: Service, lcls: FakeService) -> None:
    rms = document(ctype="pixel_rms", experiment="before", run=300, _id="6450604c3a7ab9e8b9dc63b5")
    lcls.answers[OF_DETECTOR] = reply(
        [rms, document(run=1, _id="ffff604c3a7ab9e8b9dc63b5", experiment="before")]
    )
    lcls.answers["/cdb_jungfrau_000001/gridfs/6450604a3a7ab9e8b9dc63b2"] = reply((VALUE + 1).tobytes())
    found = client.find(CAMERA, "exp", 7)
    assert np.array_equal(found["pixel_rms"].value, VALUE + 1)
    assert found["pixel_rms"].experiment == "before"
    assert np.array_equal(found["pedestals"].value, VALUE)


def test_a_payload_is_fetched_once(client: Service, lcls: FakeService, tmp_path: Path) -> None:
    for _ in range(3):
        client.find(CAMERA, "exp", 7)
    again = Service(lcls.url, cache=tmp_path / "cache")
    assert np.array_equal(again.find(CAMERA, "exp", 7)["pedestals"].value, VALUE)
    again.close()
    assert [path for path, _ in lcls.asked].count(f"/calib_ws{DATA}") == 1
    (kept,) = (tmp_path / "cache").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


def test_a_damaged_cache_is_fetched_again(
    client: Service, lcls: FakeService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client.find(CAMERA, "exp", 7)
    (kept,) = (tmp_path / "cache").iterdir()
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    for content in (bytes(data), data[:-1], b""):
        kept.write_bytes(content)
        assert np.array_equal(client.find(CAMERA, "exp", 7)["pedestals"].value, VALUE)
    assert [path for path, _ in lcls.asked].count(f"/calib_ws{DATA}") == 4
    assert "is not used" in caplog.text


def test_a_cache_that_others_may_write_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shared = tmp_path / "cache"
    shared.mkdir()
    shared.chmod(0o777)
    cache = PayloadCache(shared)
    cache.put("key", np.zeros(3, np.uint8))
    assert cache.get("key", 3) is None
    assert list(shared.iterdir()) == []
    assert "chmod 700" in caplog.text


def test_the_oldest_of_a_full_cache_goes_first(tmp_path: Path) -> None:
    cache = PayloadCache(tmp_path / "cache", max_bytes=3 * 132)
    seen: set[Path] = set()
    for number in range(5):
        cache.put(str(number), np.full(100, number, np.uint8))
        files = set((tmp_path / "cache").iterdir())
        assert len(files) <= 3
        for path in files - seen:
            os.utime(path, (number, number))
        seen |= files
    assert cache.get("0", 100) is None
    kept = cache.get("4", 100)
    assert kept is not None
    assert kept[0] == 4


def refused(client: Service, *said: str, ctypes: list[str] | None = None) -> None:
    """Check that the client gives up with a ServiceError that names the address and says all this."""
    with pytest.raises(ServiceError) as failure:
        client.find(CAMERA, "exp", 7, ctypes=ctypes)
    assert client.url in str(failure.value)
    assert [one for one in said if one not in str(failure.value)] == []
    assert str(pickle.loads(pickle.dumps(failure.value))) == str(failure.value)


def test_a_service_that_is_not_there_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    pauses: list[float] = []
    gone = Service(f"http://127.0.0.1:{port}", cache=tmp_path / "cache", sleep=pauses.append)
    refused(gone, "it cannot be reached: Connection refused (3 tries)", "Is the service running")
    assert pauses == [0.25, 1.0]
    gone.close()


def test_a_name_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(ServiceError):
        Service("http://no.such.host.invalid", cache=tmp_path, sleep=lambda _: None).find(CAMERA, "exp", 7)


@pytest.mark.parametrize(
    "status", ["503 Service Unavailable", "500 Internal Server Error", "502 Bad Gateway"]
)
def test_a_service_that_cannot_now_is_asked_again(client: Service, lcls: FakeService, status: str) -> None:
    good = lcls.answers[OF_EXPERIMENT]
    assert isinstance(good, bytes)
    lcls.answers[OF_EXPERIMENT] = [reply("no", status), reply("no", status), good]
    assert set(client.find(CAMERA, "exp", 7)) == {"pedestals"}
    lcls.answers[OF_EXPERIMENT] = reply("no", status)
    refused(client, status, "3 tries")


@pytest.mark.parametrize(
    ("status", "said"),
    [("404 Not Found", "the address"), ("401 Unauthorized", "CALIB_JWT"), ("302 Found", "302")],
)
def test_a_refusal_is_told_at_once(client: Service, lcls: FakeService, status: str, said: str) -> None:
    lcls.answers[NAMES] = reply("no", status, location="http://127.0.0.1:1/")
    refused(client, said)
    assert len(lcls.asked) == 1


def silence(link: socket.socket) -> None:
    link.recv(1)


def drip(link: socket.socket) -> None:
    link.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 480\r\n\r\n")
    link.recv(1)


@pytest.mark.parametrize("slow", [silence, drip])
def test_a_service_that_does_not_answer_is_given_up(client: Service, lcls: FakeService, slow: Any) -> None:
    lcls.answers[DATA] = slow
    refused(client, "no answer within 0.5 s", "Is the service running")
    assert [path for path, _ in lcls.asked].count(f"/calib_ws{DATA}") == 1


def test_what_is_waited_for_is_told_meanwhile(
    client: Service, lcls: FakeService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert set(client.find(CAMERA, "exp", 7)) == {"pedestals"}
    assert caplog.text == ""
    monkeypatch.setattr(http, "PATIENCE_S", 0.1)
    lcls.answers[NAMES] = silence
    refused(client, "no answer within 0.5 s")
    assert f"{client.url}{NAMES}: the answer is not there yet; it is given up after 0.5 s" in caplog.text


def trickle(link: socket.socket) -> None:
    link.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 480\r\n\r\n")
    for _ in range(480):
        link.sendall(b"x")


def test_an_answer_that_trickles_is_given_up(lcls: FakeService) -> None:
    lcls.answers["/x"] = trickle
    times = iter(range(0, 1_000_000, 1000))
    client = HttpClient(f"{lcls.url}/calib_ws", clock=lambda: float(next(times)))
    with pytest.raises(ServiceError, match="too slowly"):
        client.data("/x", 1000, size=480)
    client.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: zzz\r\n\r\n",
        reply(VALUE.tobytes()[:-1]),
        reply(VALUE.tobytes(), content_length="481"),
        reply(b""),
        reply(VALUE.tobytes() + b"x"),
        reply(b"x" * 5000, content_length=str(1 << 40)),
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(5000),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffff\r\nxx",
        reply(b"\x1f\x8b garbage", content_encoding="gzip"),
    ],
)
def test_a_payload_that_is_not_what_it_should_be_is_refused_and_not_kept(
    client: Service, lcls: FakeService, tmp_path: Path, answer: bytes
) -> None:
    lcls.answers[DATA] = answer
    refused(client, DATA)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_payload_that_came_whole_the_second_time_is_used(client: Service, lcls: FakeService) -> None:
    lcls.answers[DATA] = [reply(VALUE.tobytes()[:100], content_length="480"), reply(VALUE.tobytes())]
    assert np.array_equal(client.find(CAMERA, "exp", 7)["pedestals"].value, VALUE)


@pytest.mark.parametrize("path", [NAMES, OF_EXPERIMENT])
@pytest.mark.parametrize(
    "body",
    ["<html>Sign in</html>", "", "{", "[" * 100_000, "[1, 2]", '"text"', "null", b"\xff\xfe", "9" * 5000],
)
def test_documents_that_are_none_are_refused(
    client: Service, lcls: FakeService, path: str, body: str | bytes
) -> None:
    lcls.answers[path] = reply(body)
    with pytest.raises(ServiceError):
        client.find(CAMERA, "exp", 7)


@pytest.mark.parametrize(
    "change",
    [
        {"_id": 5},
        {"_id": "../../../etc"},
        {"id_data": "../../secret"},
        {"id_data": None},
        {"data_shape": "__import__('os').system('true')"},
        {"data_shape": "(3, 2, 4, 5) + (1,)"},
        {"data_shape": "(99999999, 99999999)"},
        {"data_shape": "()"},
        {"data_shape": [3, 2, 4, 5]},
        {"data_dtype": "object"},
        {"data_dtype": "|O"},
        {"data_dtype": "f4,f4"},
        {"data_type": "exotic"},
        {"run": "5"},
        {"run": -1},
        {"run_end": "later"},
        {"run": 10**30},
        {"ctype": "a/b"},
        {"ctype": None},
    ],
)
def test_a_document_that_makes_no_sense_is_left_out_and_told(
    client: Service, lcls: FakeService, caplog: pytest.LogCaptureFixture, change: dict[str, Any]
) -> None:
    lcls.answers[OF_EXPERIMENT] = reply([document(**change)])
    assert client.find(CAMERA, "exp", 7) == {}
    assert "make no sense" in caplog.text
    assert not [path for path, _ in lcls.asked if "gridfs" in path]


def test_what_only_python_could_load_is_never_loaded(
    client: Service, lcls: FakeService, caplog: pytest.LogCaptureFixture
) -> None:
    lcls.answers[OF_EXPERIMENT] = reply([document(data_type="any", ctype="lasingoffreference")])
    assert client.find(CAMERA, "exp", 7) == {}
    assert "never loaded" in caplog.text
    refused(client, "never loaded", ctypes=["lasingoffreference"])
    assert not [path for path, _ in lcls.asked if "gridfs" in path]


def test_a_digest_that_differs_is_told(client: Service, lcls: FakeService) -> None:
    lcls.answers[OF_EXPERIMENT] = reply([document(digest="0" * 64)])
    refused(client, "digest differs")


def test_text_that_is_none_is_told(client: Service, lcls: FakeService) -> None:
    lcls.answers[OF_EXPERIMENT] = reply([document(ctype="geometry", data_type="str")])
    lcls.answers[DATA] = reply(b"\xff\xff")
    refused(client, "not UTF-8")
    lcls.answers[DATA] = reply("IP 0 \u00e9")
    assert client.find(CAMERA, "exp", 7)["geometry"].value == "IP 0 \u00e9"


@pytest.mark.parametrize("url", ["http://", "ftp://host/x", "http://host/?a=b", "http://me:secret@host"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ServiceError) as failure:
        Service(url)
    assert "secret" not in str(failure.value)


def test_an_address_opens_a_service(
    lcls: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    caplog.set_level(logging.WARNING)
    for url in (lcls.url, f"{lcls.url}/", f"{lcls.url}/calib_ws", f"{lcls.url}/calib_ws/"):
        source = open_source(url)
        assert isinstance(source, Service)
        assert source.url == f"{lcls.url}/calib_ws"
        assert set(source.find(CAMERA, "exp", 7)) == {"pedestals"}
        source.close()
    assert len(list((tmp_path / "drp" / "calib").iterdir())) == 1
