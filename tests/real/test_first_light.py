"""The whole `drp` command on real LCLS data, judged by real psana.

`fex_scripts/myroi.py` cuts a region of interest from each segment, adds them and their sum, and keeps raw of
every Nth event only. The files end without EndRun, and that of the Jungfrau has two BeginSteps, the first
with the time stamp of BeginRun: what is recorded is complete all the same.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

ROWS, COLUMNS = slice(100, 200), slice(50, 150)
CLOSING = ("Disable", "EndStep", "EndRun")
Json = dict[str, Any]
FieldName = tuple[str, int, str, str]


@dataclass(frozen=True, slots=True)
class Light:
    """One file before and after drp, as psana reads both."""

    name: str
    detector: str
    segments: int
    folder: Path
    recorded: Path
    report: Json
    before: Json
    after: Json

    @property
    def events(self) -> Iterator[tuple[int, Json, Json]]:
        """Yield index, L1Accept before and L1Accept after."""
        pairs = zip(events_of(self.before), events_of(self.after), strict=True)
        yield from ((index, before, after) for index, (before, after) in enumerate(pairs))


def events_of(answer: Json) -> list[Json]:
    """Return the L1Accepts of what psana read."""
    return [dgram for dgram in answer["dgrams"] if dgram["service_name"] == "L1Accept"]


def fields_of(dgram: Json) -> dict[FieldName, Json]:
    """Index the fields of a dgram by detector, segment, alg and name; where arrays were saved is left out."""
    return {
        (field["det"], field["seg"], field["alg"], field["field"]): {
            key: value for key, value in field.items() if key != "file"
        }
        for field in dgram["fields"]
    }


def array_of(field: Json) -> np.ndarray[Any, Any]:
    """Return an array that the oracle saved."""
    return np.fromfile(field["file"], dtype=field["dtype"]).reshape(field["shape"])


FILES = {
    "test_jungfrau05M_calib.xtc2": ("jungfrau", 1),
    "test_epix_calib.xtc2": ("epixquad", 4),
}


@pytest.fixture(scope="module", params=FILES)
def light(
    request: pytest.FixtureRequest,
    drp: Any,
    psana: Any,
    xtc2_data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Light:
    """Run drp as the first page of the manual does, and let psana read what went in and what came out."""
    detector, segments = FILES[request.param]
    folder = tmp_path_factory.mktemp("light")
    source, out, report = xtc2_data / request.param, folder / "out", folder / "report.json"
    script = "fex_scripts/myroi.py --roi 100:200,50:150"
    done = drp("-p", script, "--source", source, "-o", out, "--report", report)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    (recorded,) = (path for path in out.rglob("*.xtc2") if not path.name.endswith(".smd.xtc2"))
    return Light(
        name=request.param,
        detector=detector,
        segments=segments,
        folder=folder,
        recorded=recorded,
        report=json.loads(report.read_text()),
        before=psana.dgrams(source, arrays=folder / "before"),
        after=psana.dgrams(recorded, arrays=folder / "after"),
    )


def test_ledger_closes_over_all_events(light: Light) -> None:
    assert light.report["closes"] is True
    assert light.report["ledger"]["total"] == len(events_of(light.before)) == 2


def test_record_has_every_dgram_in_order_and_ends_the_run(light: Light) -> None:
    before, after = (
        [(dgram["service_name"], dgram["timestamp"]) for dgram in answer["dgrams"]]
        for answer in (light.before, light.after)
    )
    assert after[: len(before)] == before
    added = [service for service, _ in after[len(before) :]]
    assert tuple(service for service in added if service != "Unconfigure") == CLOSING
    times = [time for _, time in after]
    assert times == sorted(times)
    assert light.after["tail_bytes"] == 0


def test_transitions_keep_what_was_in_them(light: Light) -> None:
    for before, after in zip(light.before["dgrams"], light.after["dgrams"], strict=False):
        if before["service_name"] != "L1Accept":
            fields = fields_of(after)
            assert {name: fields.get(name) for name in fields_of(before)} == fields_of(before)


def test_configure_keeps_the_names_and_adds_ours(light: Light) -> None:
    before, after = (answer["configs"][0]["names"] for answer in (light.before, light.after))
    assert [names for names in before if names not in after] == []
    added = {(names["det"], names["alg"]) for names in after if names not in before}
    assert ("drpinfo", "drpinfo") in added
    assert any(det == light.detector for det, _ in added)


def test_roi_of_each_segment_is_bit_for_bit_that_of_raw(light: Light) -> None:
    for _, before, after in light.events:
        raw = arrays_of(before, light.detector)
        frames = [raw[light.detector, segment, "raw", "raw"] for segment in range(light.segments)]
        expected = np.concatenate([cut(array_of(frame)) for frame in frames])
        (roi,) = (
            array_of(field) for name, field in arrays_of(after, light.detector).items() if name not in raw
        )
        assert roi.dtype == expected.dtype
        assert roi.shape == (light.segments, 100, 100)
        assert roi.tobytes() == expected.tobytes()
        assert int(expected.sum(dtype=np.uint64)) in new_scalars(before, after, light.detector)


def cut(frame: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the region of interest of one segment, as frames, rows, columns."""
    return frame.reshape(-1, *frame.shape[-2:])[:, ROWS, COLUMNS]


def arrays_of(dgram: Json, detector: str) -> dict[FieldName, Json]:
    """Return the saved arrays of one detector."""
    return {
        (field["det"], field["seg"], field["alg"], field["field"]): field
        for field in dgram["fields"]
        if field["det"] == detector and "file" in field
    }


def new_scalars(before: Json, after: Json, detector: str) -> list[Any]:
    """Return the values that drp added to one detector."""
    old = fields_of(before)
    return [
        field["value"]
        for name, field in fields_of(after).items()
        if name[0] == detector and name not in old and "value" in field
    ]


def test_raw_is_whole_where_kept_and_gone_elsewhere(light: Light) -> None:
    kept = []
    for index, before, after in light.events:
        raw = {name: field for name, field in fields_of(before).items() if name[0] == light.detector}
        left = {name: field for name, field in fields_of(after).items() if name in raw}
        assert left in ({}, raw)
        if left:
            kept.append(index)
    assert kept == [0]


def test_undamaged_events_stay_undamaged(light: Light) -> None:
    for dgram in light.after["dgrams"]:
        assert dgram["damage"] == 0
        assert all(damage == 0 for *_, damage in dgram["xtc_damage"])


def test_psana_opens_the_recorded_file(light: Light, psana: Any) -> None:
    (run,) = psana.files(light.recorded, light.detector, steps=True)
    check_run(run, light)
    check_events([event for step in run["steps"] for event in step["events"]], light)


def test_psana_opens_the_run_by_its_smalldata(light: Light, psana: Any) -> None:
    exp, runnum = runinfo_of(light.before)
    (run,) = psana.run(exp, runnum, light.recorded.parent, light.detector)
    check_run(run, light)
    check_events(run["events"], light)


def test_smalldata_points_at_every_event(light: Light, psana: Any) -> None:
    small = psana.dgrams(light.recorded.parent / "smalldata" / f"{light.recorded.stem}.smd.xtc2")
    pointers = [
        tuple(
            fields_of(dgram)["smdinfo", 0, "offsetAlg", name]["value"]
            for name in ("intOffset", "intDgramSize")
        )
        for dgram in events_of(small)
    ]
    assert pointers == [(dgram["offset"], dgram["size"]) for dgram in events_of(light.after)]
    services = [[dgram["service_name"] for dgram in answer["dgrams"]] for answer in (small, light.after)]
    assert services[0] == services[1]


def runinfo_of(answer: Json) -> tuple[str, int]:
    """Return experiment and run number."""
    begin = next(dgram for dgram in answer["dgrams"] if dgram["service_name"] == "BeginRun")
    fields = fields_of(begin)
    expt, runnum = (fields["runinfo", 0, "runinfo", name]["value"] for name in ("expt", "runnum"))
    return expt, runnum


def check_run(run: Json, light: Light) -> None:
    """Compare what psana says of a run with what went in."""
    begin = next(dgram for dgram in light.before["dgrams"] if dgram["service_name"] == "BeginRun")
    assert (run["expt"], run["runnum"]) == runinfo_of(light.before)
    assert run["timestamp"] == begin["timestamp"]
    assert light.detector in run["detnames"]


def check_events(events: list[Json], light: Light) -> None:
    """Compare the events that psana built with the file's own, and its detector's raw where raw was kept."""
    assert [event["timestamp"] for event in events] == [event["timestamp"] for _, event, _ in light.events]
    for built, (index, _, after) in zip(events, light.events, strict=True):
        (stream,) = built["streams"]
        assert fields_of(stream) == fields_of(after)
        assert (built["raw"][light.detector] is not None) == (index == 0)
