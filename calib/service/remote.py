"""What a service says of its constants, as records: read from JSON that is not believed.

The JSON is that of LCLS's calibration database. A document that makes no sense is left out; what it says of its payload is checked
before the payload is fetched.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import ServiceError
from calib.model import CTYPES, LAST_RUN, MAX_NDIM, MAX_TEXT_BYTES, MAX_VALUE_BYTES, Value, checked_value

LOG = logging.getLogger("calib.client")
MAX_SERIALS = 1024
_ID = re.compile(r"[0-9a-fA-F]{24}\Z")
_SHAPE = re.compile(r"[(\[][0-9, ]{1,200}[)\]]\Z")
_DTYPE = re.compile(r"(?:[<|=]?[fiub][1248]|(?:float|int|uint)(?:8|16|32|64)|bool)\Z")


@dataclass(frozen=True, slots=True)
class RemoteDetector:
    """A detector as `cdb_detnames` has it."""

    short_name: str
    serials: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemoteDocument:
    """A constant that a service has: what the rule of validity needs, and where the payload is.

    `experiment` is empty for a document of the detector's database; `origin` is the experiment that it was made in. `created` is the time
    in its id, as LCLS's clients take it.
    """

    ctype: str
    panels: tuple[str, ...]
    experiment: str
    run: int
    run_end: int | None
    created: float
    document_id: str
    database: str
    data_id: str
    data_type: str
    dtype: str
    shape: tuple[int, ...]
    origin: str
    version: str
    comment: str
    digest: str

    @property
    def size_bytes(self) -> int | None:
        """Bytes of the payload, where the document tells: an array's."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape) if self.data_type == "ndarray" else None


def read_detectors(documents: object, dettype: str) -> list[RemoteDetector]:
    """Return the detectors that a collection of `cdb_detnames` holds."""
    found = []
    for document in _dicts(documents):
        short, long = document.get("short"), document.get("long")
        given = document.get("serials")
        if isinstance(given, list) and all(isinstance(one, str) for one in given):
            serials = tuple(given)
        elif isinstance(long, str) and long.startswith(f"{dettype}_"):
            serials = tuple(long[len(dettype) + 1 :].split("_"))
        else:
            continue
        if isinstance(short, str) and 0 < len(short) <= 128 and len(serials) <= MAX_SERIALS:
            found.append(RemoteDetector(short, serials))
    return found


def read_documents(
    documents: object, database: str, detector: RemoteDetector, experiment: str
) -> list[RemoteDocument]:
    """Return the constants that a collection holds, oldest first; those that make no sense are left out and counted in the log."""
    found, refused = [], []
    for document in _dicts(documents):
        try:
            found.append(_document(document, database, detector, experiment))
        except (KeyError, TypeError, ValueError) as error:
            refused.append(f"{document.get('_id')!r:.40}: {error!r:.200}")
    if refused:
        LOG.warning(
            "%s: %d documents make no sense and are left out, first %s", database, len(refused), refused[0]
        )
    return sorted(found, key=lambda one: one.document_id)


def value_of(data: NDArray[np.uint8], document: RemoteDocument) -> Value:
    """Return the value that a payload's bytes are, in the dtype of its type. Raises ServiceError or ConstantsMisshapen."""
    value: Value
    if document.data_type == "str":
        try:
            value = data.tobytes().decode()
        except UnicodeDecodeError:
            raise ServiceError(f"the text of {document.ctype} is not UTF-8") from None
    else:
        if data.nbytes != document.size_bytes:
            raise ServiceError(
                f"the payload of {document.ctype} has {data.nbytes} bytes, {document.shape} of {document.dtype} needs "
                f"{document.size_bytes}"
            )
        value = data.view(np.dtype(document.dtype)).reshape(document.shape)
        value.flags.writeable = False
    kind = CTYPES.get(document.ctype)
    return value if kind is None else checked_value(document.ctype, kind, value)


def _dicts(documents: object) -> Iterable[dict[str, Any]]:
    if not isinstance(documents, list) or not all(isinstance(one, dict) for one in documents):
        raise ServiceError(
            "the answer is no list of documents", hint="Is this the address of a calibration service?"
        )
    return documents


def _document(
    document: dict[str, Any], database: str, detector: RemoteDetector, experiment: str
) -> RemoteDocument:
    document_id = _matching(document["_id"], _ID, "_id").lower()
    data_type = document["data_type"]
    if data_type not in ("ndarray", "str", "any"):
        raise ValueError(f"data_type {data_type!r:.40}")
    dtype = ""
    shape: tuple[int, ...] = ()
    if data_type == "ndarray":
        dtype = _matching(document["data_dtype"], _DTYPE, "data_dtype")
        shape = _shape(document["data_shape"])
        if not 0 < np.dtype(dtype).itemsize * math.prod(shape) <= MAX_VALUE_BYTES:
            raise ValueError(f"data_shape {shape}")
    run, run_end = document["run"], document["run_end"]
    if isinstance(run_end, str) and run_end.isdecimal() and len(run_end) < 10:
        run_end = int(run_end)
    if type(run) is not int or not 0 <= run <= LAST_RUN or not (run_end == "end" or type(run_end) is int):
        raise ValueError(f"run {run!r:.40} to {run_end!r:.40}")
    return RemoteDocument(
        ctype=_matching(document["ctype"], re.compile(r"\w{1,64}\Z"), "ctype"),
        panels=detector.serials,
        experiment=experiment,
        run=run,
        run_end=None if run_end == "end" else run_end,
        created=int(document_id[:8], 16),
        document_id=document_id,
        database=database,
        data_id=_matching(document["id_data"], _ID, "id_data"),
        data_type=data_type,
        dtype=dtype,
        shape=shape,
        origin=_text(document, "experiment"),
        version=_text(document, "version"),
        comment=_text(document, "comment"),
        digest=_text(document, "digest"),
    )


def _shape(text: object) -> tuple[int, ...]:
    shape = tuple(int(one) for one in re.findall(r"[0-9]{1,10}", _matching(text, _SHAPE, "data_shape")))
    if not 1 <= len(shape) <= MAX_NDIM:
        raise ValueError(f"data_shape {text!r:.40}")
    return shape


def _matching(value: object, pattern: re.Pattern[str], what: str) -> str:
    if not isinstance(value, str) or not pattern.match(value):
        raise ValueError(f"{what} {value!r:.80}")
    return value


def _text(document: dict[str, Any], key: str) -> str:
    value = document.get(key, "")
    return value[:MAX_TEXT_BYTES] if isinstance(value, str) else ""
