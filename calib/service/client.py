"""Service: constants from a calibration service over HTTP, ours or LCLS's. It is a Source of constants.

Nothing that comes over the network is unpickled or evaluated; a payload that only Python itself could load is refused. What was fetched
once is taken from a cache on this disk.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import IO
from urllib.parse import quote, urlsplit

import httpx

from calib.errors import ConstantsMissing, ServiceError
from calib.model import CTYPES, LAST_RUN, MAX_TEXT_BYTES, Constant, DetectorId, digest_of
from calib.panels import choose, for_panels
from calib.service.cache import PayloadCache, default_folder
from calib.service.http import TIMEOUTS, HttpClient
from calib.service.remote import RemoteDetector, RemoteDocument, read_detectors, read_documents, value_of

LOG = logging.getLogger("calib.client")
ROOT = "/calib_ws"
MAX_DETECTORS = 16  # that hold the same panel, newest first


def open_service(url: str) -> Service:
    """Return the service at an address; nothing is asked yet. Raises ServiceError where it is no address."""
    return Service(url)


class Service:
    """A calibration service. `cache` None keeps nothing; `token` is for writes, and for services that ask who reads."""

    def __init__(
        self,
        url: str,
        *,
        cache: Path | None = None,
        use_cache: bool = True,
        token: str | None = None,
        timeout: httpx.Timeout = TIMEOUTS,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        base = base_of(url)
        if token is None and base.startswith("https:"):
            token = os.environ.get("CALIB_JWT")
        self._http = HttpClient(base, bearer=token, timeout=timeout, sleep=sleep)
        self._cache = PayloadCache(cache or default_folder()) if use_cache else None

    @property
    def url(self) -> str:
        """Its address."""
        return self._http.base

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def find(
        self,
        detector: DetectorId,
        experiment: str | None,
        run: int,
        *,
        ctypes: Collection[str] | None = None,
    ) -> dict[str, Constant]:
        """Return the latest valid constants of a detector, as `Source.find` says.

        A type whose payload is an arbitrary Python object is an error where it is asked for by name, and else left out with a warning.
        """
        documents = [
            document
            for one in self._detectors(detector)
            for document in self._documents(one, experiment, run, ctypes)
        ]
        documents.sort(key=lambda one: one.document_id)
        found = {}
        for ctype, document in choose(documents, detector, experiment, run, ctypes=ctypes).items():
            if document.data_type == "any":
                self._refuse(document, asked=ctypes is not None)
                continue
            found[ctype] = for_panels(self._constant(document), detector.serials, self.url)
        return found

    def put(self, items: Iterable[tuple[DetectorId, Constant]]) -> list[int]:
        """Add constants, all or none, and return their ids; it needs the token. Raises ServiceError."""
        from calib.store import write_archive  # noqa: PLC0415 - SQLAlchemy is not for who only reads

        with tempfile.TemporaryFile() as archive:
            write_archive(archive, items)
            archive.seek(0)
            return self.send_archive(archive)

    def send_archive(self, archive: IO[bytes]) -> list[int]:
        """Add the constants of an archive that `calib export` made, and return their ids; it needs the token."""
        answer = self._http.send("POST", "/import", archive)
        put = answer.get("put") if isinstance(answer, dict) else None
        if not isinstance(put, list):
            raise ServiceError("the answer does not say what was put", where=self.url)
        return [int(one) for one in put]

    def _detectors(self, detector: DetectorId) -> list[RemoteDetector]:
        """Return those that have a panel of the detector, or its name where it has no serials; newest last."""
        dettype = detector.dettype or detector.name.rpartition("_")[0]
        if not dettype:
            raise ConstantsMissing(
                f"a service is not asked for {detector.name!r} alone",
                where=self.url,
                hint="Say its type and serials, or its short name, such as jungfrau_000001.",
            )
        answer = self._http.json(f"/cdb_detnames/{quote(dettype, safe='')}", "{}")
        known = read_detectors(answer, dettype)
        if not detector.serials:
            return [one for one in known if one.short_name == detector.name]
        wanted = set(detector.serials)
        some = [one for one in known if wanted & set(one.serials)]
        whole = [one for one in some if wanted <= set(one.serials)]
        chosen = sorted(whole or some, key=lambda one: one.short_name)
        return chosen[-MAX_DETECTORS:]

    def _documents(
        self, detector: RemoteDetector, experiment: str | None, run: int, ctypes: Collection[str] | None
    ) -> list[RemoteDocument]:
        short = detector.short_name
        question: dict[str, object] = {"detector": short, "run": {"$lte": run or LAST_RUN}}
        if ctypes is not None:
            question["ctype"] = {"$in": sorted(ctypes)}
        asked = [(f"cdb_{short}", "", question | {"run": {"$lte": LAST_RUN}})]
        if experiment:
            asked.append((f"cdb_{experiment}", experiment, question))
        found = []
        for database, own, query in asked:
            path = f"/{quote(database, safe='')}/{quote(short, safe='')}"
            answer = self._http.json(path, json.dumps(query))
            found += read_documents(answer, database, detector, own)
        return found

    def _constant(self, document: RemoteDocument) -> Constant:
        where = f"/{quote(document.database, safe='')}/gridfs/{document.data_id}"
        key = f"{self.url}{where} {document.digest}"
        size = document.size_bytes
        data = self._cache.get(key, size) if self._cache else None
        cached = data is not None
        if data is None:
            data = self._http.data(where, MAX_TEXT_BYTES if size is None else size, size=size)
        try:
            value = value_of(data, document)
        except ServiceError as error:
            raise ServiceError(error.what, where=f"{self.url}{where}") from None
        digest = digest_of(value)
        if document.digest and digest != document.digest:
            raise ServiceError(
                f"the payload of {document.ctype} is not what its document says: the digest differs",
                where=f"{self.url}{where}",
                hint="Try again; if it stays, the service's store is damaged.",
            )
        if self._cache and not cached:
            self._cache.put(key, data)
        kind = CTYPES.get(document.ctype)
        return Constant(
            document.ctype,
            value,
            document.panels if kind is not None and kind.per_pixel else (),
            document.experiment or document.origin,
            document.run,
            document.run_end,
            document.version,
            document.comment,
            document.created,
            digest,
            digest,
            document.document_id,
        )

    def _refuse(self, document: RemoteDocument, *, asked: bool) -> None:
        what = f"{document.ctype} is kept there as an arbitrary Python object, and such are never loaded"
        if asked:
            raise ServiceError(
                what, where=self.url, hint="Ask for other types, or put it anew as an array or text."
            )
        LOG.warning("%s: %s; it is left out", self.url, what)


def base_of(url: str) -> str:
    """Return the address of a service's root; LCLS_CALIB_HTTP's form, without the last folder, is understood too. Raises ServiceError."""
    wrong = ServiceError(
        "this is no address of a calibration service", where=url, hint="Such as http://127.0.0.1:8000"
    )
    try:
        parts = urlsplit(url)
        _ = parts.port, httpx.URL(url)  # both say what they do not understand only when they are asked
    except (ValueError, httpx.InvalidURL):
        raise wrong from None
    if parts.username is not None:
        raise ServiceError("an address with a name or password in it is not used", where=parts.hostname or "")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise wrong
    base = url.rstrip("/")
    return base if base.endswith(ROOT) else f"{base}{ROOT}"
