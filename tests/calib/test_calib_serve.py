"""A real `calib serve`: what it answers, what it refuses, and our own client reading from it."""

import contextlib
import http.client
import io
import json
import socket
import sqlite3
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calib_command import Served, calib, served
from store_checks import FOUR, PIXELS, pedestals

from calib import Constant, ConstantsMissing, DetectorId, ServiceError
from calib.service import Service
from calib.service.token import make_token
from calib.store import open_store, write_archive

pytestmark = pytest.mark.timeout(90)

LARGE = np.random.default_rng(2).random((5, 1, 1024, 1024), np.float32)
ONE = DetectorId("big", "epix10ka", ("p",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Served]:
    """A service with a token over a store with a few constants."""
    with open_store(str(folder / "calib.sqlite"), create=True) as store:
        store.put(FOUR, [pedestals(1, run=3), pedestals(2, run=10, run_end=20)])
        store.put(FOUR, [Constant.make("geometry", "IP 0 \u00e9", experiment="other", run=1)])
        store.put(ONE, [Constant.make("pedestals", LARGE, ONE.serials, experiment="exp")])
    with served(folder, folder / "calib.sqlite", "--token-file", folder / "token") as one:
        yield one


@pytest.fixture
def client(running: Served, tmp_path: Path) -> Iterator[Service]:
    one = Service(running.url, cache=tmp_path / "cache")
    yield one
    one.close()


def ask(
    served_: Served,
    path: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    """Ask over a connection of its own; return the status, and the answer as JSON where it is that."""
    link = http.client.HTTPConnection("127.0.0.1", served_.port, timeout=20)
    try:
        link.request(method, path, body=body, headers=dict(headers or {}))
        answer = link.getresponse()
        data = answer.read()
    finally:
        link.close()
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    return answer.status, json.loads(data) if is_json else data


def test_databases_and_collections_are_listed_as_lcls_does(running: Served) -> None:
    assert ask(running, "/calib_ws/")[1] == [
        "cdb_detnames",
        "cdb_exp",
        "cdb_other",
        "cdb_epix10ka_000001",
        "cdb_jungfrau_000001",
    ]
    assert ask(running, "/calib_ws/cdb_exp") == (200, ["epix10ka_000001", "jungfrau_000001"])
    assert ask(running, "/calib_ws/cdb_detnames") == (200, ["epix10ka", "jungfrau"])
    (name,) = ask(running, "/calib_ws/cdb_detnames/jungfrau?query_string=%7B%7D")[1]
    assert (name["long"], name["short"]) == ("jungfrau_w_x_y_z", "jungfrau_000001")


def test_what_is_not_there_is_empty_and_no_error(running: Served) -> None:
    for path in (
        "cdb_nowhere",
        "cdb_nowhere/x",
        "cdb_exp/x",
        "cdb_detnames/x",
        "cdb_jungfrau_000009/jungfrau_000009",
    ):
        assert ask(running, f"/calib_ws/{path}") == (200, [])


def test_documents_come_by_query_and_payloads_by_id(running: Served) -> None:
    query = "%7B%22detector%22%3A%20%22jungfrau_000001%22%2C%20%22run%22%3A%20%7B%22%24lte%22%3A%207%7D%7D"
    status, (document,) = ask(running, f"/calib_ws/cdb_exp/jungfrau_000001?query_string={query}")
    assert (status, document["ctype"], document["run"], document["run_end"]) == (200, "pedestals", 3, "end")
    assert ask(running, f"/calib_ws/cdb_exp/jungfrau_000001/{document['_id']}") == (200, document)
    status, data = ask(running, f"/calib_ws/cdb_exp/gridfs/{document['id_data']}")
    assert (status, data) == (200, (PIXELS + 1).tobytes())
    in_body = json.dumps({"detector": "jungfrau_000001", "run": {"$lte": 7}}).encode()
    assert ask(running, "/calib_ws/cdb_exp/jungfrau_000001", body=in_body)[1] == [document]
    assert ask(running, "/calib_ws/cdb_exp/jungfrau_000001?ctype=pedestals")[1][0] == document


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/calib_ws/None/None?query_string=None", 405),
        ("/calib_ws/admin", 405),
        ("/calib_ws/cdb_exp/jungfrau_000001?query_string=None", 400),
        ("/calib_ws/cdb_exp/jungfrau_000001?query_string=%7B%22%24where%22%3A%201%7D", 400),
        ("/calib_ws/cdb_exp/gridfs/000000000000000000000000", 404),
        ("/calib_ws/cdb_exp/gridfs/6b01b4200300000000000001", 404),
        ("/calib_ws/cdb_exp/gridfs/zz", 404),
        ("/calib_ws/cdb_exp/gridfs/..%2f..%2fetc%2fpasswd", 404),
        ("/calib_ws/cdb_exp/jungfrau_000001/000000000000000000000000", 404),
        ("/", 404),
        ("/../../etc/passwd", 404),
    ],
)
def test_what_makes_no_sense_is_refused(running: Served, path: str, status: int) -> None:
    assert ask(running, path)[0] == status


def test_a_payload_is_given_only_by_the_database_that_has_it(running: Served) -> None:
    (document,) = ask(running, "/calib_ws/cdb_other/jungfrau_000001")[1]
    assert ask(running, f"/calib_ws/cdb_other/gridfs/{document['id_data']}")[0] == 200
    assert ask(running, f"/calib_ws/cdb_exp/gridfs/{document['id_data']}")[0] == 404


def test_a_query_in_a_body_is_bounded(running: Served) -> None:
    assert ask(running, "/calib_ws/cdb_exp/jungfrau_000001", body=b" " * (1 << 20))[0] == 413


def test_our_client_finds_what_the_store_finds(client: Service) -> None:
    assert np.array_equal(client.find(FOUR, "exp", 12)["pedestals"].value, PIXELS + 2)
    found = client.find(FOUR, "exp", 21)
    assert np.array_equal(found["pedestals"].value, PIXELS + 1)
    assert (found["geometry"].value, found["geometry"].experiment) == ("IP 0 \u00e9", "other")
    part = client.find(DetectorId("cam", "jungfrau", ("z", "w")), "exp", 21)["pedestals"]
    assert np.array_equal(part.value, (PIXELS + 1)[:, [3, 0]])
    assert np.array_equal(client.find(ONE, "exp", 1)["pedestals"].value, LARGE)
    assert set(client.find(DetectorId("jungfrau_000001", ""), "exp", 21)) == {"pedestals", "geometry"}
    with pytest.raises(ConstantsMissing):
        client.find(DetectorId("jungfrau", ""), "exp", 21)


def test_many_read_at_once(running: Served, tmp_path: Path) -> None:
    wrong: list[object] = []

    def read(number: int) -> None:
        one = Service(running.url, cache=tmp_path / str(number))
        try:
            if not np.array_equal(one.find(ONE, "exp", 1)["pedestals"].value, LARGE):
                wrong.append(number)
        except Exception as error:  # noqa: BLE001 - told by the main thread
            wrong.append(error)
        finally:
            one.close()

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def exported(*items: tuple[DetectorId, Constant]) -> bytes:
    file = io.BytesIO()
    write_archive(file, items)
    return file.getvalue()


RMS = exported((FOUR, Constant.make("pixel_rms", PIXELS, FOUR.serials, created=3.0)))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer " + "x" * 10_000},
        {"Authorization": "Bearer \xff"},
        {"Cookie": "token=guess"},
    ],
)
def test_nobody_writes_without_the_token(running: Served, headers: dict[str, str]) -> None:
    before = ask(running, "/calib_ws/cdb_jungfrau_000001/jungfrau_000001")[1]
    status, said = ask(running, "/calib_ws/import", method="POST", body=RMS, headers=headers)
    assert status == 401
    assert "token" in said["error"]
    one = f"/calib_ws/cdb_jungfrau_000001/jungfrau_000001/{before[0]['_id']}"
    assert ask(running, one, method="DELETE", headers=headers)[0] == 401
    for method, path in (
        ("DELETE", "/calib_ws/cdb_exp"),
        ("DELETE", "/calib_ws/cdb_exp/jungfrau_000001"),
        ("PUT", one),
        ("POST", "/calib_ws/cdb_exp/jungfrau_000001"),
        ("POST", "/calib_ws/cdb_exp/gridfs/"),
    ):
        assert ask(running, path, method=method, body=b"{}", headers=headers)[0] in (404, 405)
    assert ask(running, "/calib_ws/cdb_jungfrau_000001/jungfrau_000001")[1] == before


def test_who_has_the_token_writes(running: Served, folder: Path, tmp_path: Path) -> None:
    token = (folder / "token").read_text().strip()
    mine = DetectorId("mine", "jungfrau", ("m",))
    constant = Constant.make("pixel_gain", np.ones((3, 1, 2, 2)), mine.serials, experiment="exp", run=2)
    one = Service(running.url, cache=tmp_path / "cache", token=token)
    assert len(one.put([(mine, constant)])) == 1
    found = one.find(mine, "exp", 2)["pixel_gain"]
    assert found.digest == constant.digest
    one.close()
    (document,) = ask(running, "/calib_ws/cdb_exp/jungfrau_000002")[1]
    assert document["time_sec"] > 0
    headers = {"Authorization": f"Bearer {token}"}
    path = f"/calib_ws/cdb_exp/jungfrau_000002/{document['_id']}"
    assert ask(running, path, method="DELETE", headers=headers) == (200, {"status": True})
    assert ask(running, path, method="DELETE", headers=headers)[0] == 404
    assert ask(running, "/calib_ws/cdb_exp/jungfrau_000002") == (200, [])


@pytest.mark.parametrize("body", [b"", b"garbage", RMS[:-30], RMS.replace(b"pixel_rms", b"pixel_rmx")])
def test_an_archive_that_is_none_is_refused(running: Served, folder: Path, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {(folder / 'token').read_text().strip()}"}
    status, said = ask(running, "/calib_ws/import", method="POST", body=body, headers=headers)
    assert status == 400
    assert "archive" in said["error"]


def test_an_archive_is_bounded_before_it_is_read(running: Served, folder: Path) -> None:
    token = (folder / "token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}", "Content-Length": str(1 << 40)}
    link = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    link.putrequest("POST", "/calib_ws/import")
    for name, value in headers.items():
        link.putheader(name, value)
    link.endheaders()
    assert link.getresponse().status == 413
    link.close()


@pytest.mark.parametrize(
    "said",
    [
        b"\0" * 1000,
        b"GET /calib_ws/ HTTP/9.9\r\n\r\n",
        b"GET " + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /calib_ws/import HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"GET /calib_ws/%00%ff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /calib_ws/cdb_%00/%ff HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    ],
)
def test_what_is_no_http_does_no_harm(running: Served, said: bytes) -> None:
    with (
        socket.create_connection(("127.0.0.1", running.port), timeout=5) as link,
        contextlib.suppress(ConnectionError),
    ):
        link.sendall(said)
        with contextlib.suppress(OSError):  # it may have hung up already
            link.shutdown(socket.SHUT_WR)
        while link.recv(65536):
            pass
    assert ask(running, "/calib_ws/cdb_exp")[0] == 200


def test_it_listens_on_this_machine_only(running: Served) -> None:
    assert running.url.startswith("http://127.0.0.1:")
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    listening = [row.split()[1] for row in table if row.split()[3] == "0A"]
    mine = [address for address in listening if int(address.rpartition(":")[2], 16) == running.port]
    assert mine == [f"0100007F:{running.port:04X}"]


def test_a_damaged_payload_arrives_as_an_error_and_not_as_constants(tmp_path: Path) -> None:
    path = tmp_path / "calib.sqlite"
    with open_store(str(path), create=True) as store:
        store.put(FOUR, [pedestals()])
        store.put(ONE, [Constant.make("pedestals", LARGE, ONE.serials)])
    with sqlite3.connect(path) as file:
        file.execute(
            "UPDATE calib_payload_parts SET data = zeroblob(length(data)) WHERE part = 1 OR length(data) < 1000"
        )
    file.close()
    with served(tmp_path, path) as one:
        client = Service(one.url, cache=tmp_path / "cache", sleep=lambda _: None)
        for detector in (FOUR, ONE):
            with pytest.raises(ServiceError):
                client.find(detector, "exp", 1)
        client.close()
        assert "changed since it was put" in one.log()


def test_without_a_token_it_takes_no_writes(tmp_path: Path) -> None:
    path = tmp_path / "calib.sqlite"
    open_store(str(path), create=True).close()
    with served(tmp_path, path) as one:
        status, said = ask(
            one, "/calib_ws/import", method="POST", body=RMS, headers={"Authorization": "Bearer x"}
        )
        assert status == 403
        assert "--token-file" in said["error"]


def test_a_token_is_made_for_this_user_only_and_refused_where_others_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = make_token(path)
    assert len(token) >= 40
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert make_token(path) == token
    for content, mode in (
        ("x" * 40, 0o644),
        ("x" * 40, 0o620),
        ("short", 0o600),
        ("two words in one token", 0o600),
    ):
        path.write_text(content)
        path.chmod(mode)
        with pytest.raises(ServiceError, match="token"):
            make_token(path)
    link = tmp_path / "link"
    path.write_text(token)
    path.chmod(0o600)
    link.symlink_to(path)
    for other in (link, tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(ServiceError, match="token"):
            make_token(other)


def test_a_port_that_is_taken_is_told(running: Served, folder: Path, tmp_path: Path) -> None:
    done = calib(tmp_path, "serve", "--store", folder / "calib.sqlite", "--port", running.port)
    assert done.returncode == 1
    assert str(running.port) in done.stderr
    assert "Traceback" not in done.stderr
