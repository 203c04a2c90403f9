"""The oracle itself: real psana, asked by our script, says what the golden files say."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.real, pytest.mark.timeout(90)]

GOLDEN = (
    "chunking/xpptut15-r0014-s000-c000.xtc2",
    "chunking/smalldata/xpptut15-r0014-s000-c000.smd.xtc2",
    "fakesteps/xpptut15-r0014-s001-c000.xtc2",
    "generated/dgramedit-scratch.xtc2",
    "generated/json2xtc_test.xtc2",
    "intg_det/xpptut15-r0014-s000-c000.xtc2",
    "test_epix_calib.xtc2",
    "test_jungfrau05M_calib.xtc2",
    "test_timetool_psana.xtc2",
    "test_ts.xtc2",
)
HEADER = ("offset", "size", "timestamp", "service", "service_name", "env", "damage", "sha256")
FIELD = ("type", "dtype", "shape", "value", "names", "nbytes", "sha256")


def by_name(fields: list[dict[str, Any]]) -> dict[tuple[object, ...], dict[str, Any]]:
    """Index fields by what names them, leaving out the copies that goldens have for the eye."""
    return {
        (field["det"], field["seg"], field["alg"], field["field"]): {
            key: field[key] for key in FIELD if key in field
        }
        for field in fields
    }


def golden_of(xtc2_data: Path, name: str) -> dict[str, Any]:
    """Read the golden file of a data file."""
    golden: dict[str, Any] = json.loads(
        (xtc2_data / "golden" / (name.replace("/", "-") + ".json")).read_text()
    )
    return golden


@pytest.mark.parametrize("name", GOLDEN)
def test_dgrams_agree_with_golden(psana: Any, xtc2_data: Path, name: str) -> None:
    check_dgrams(psana.dgrams(xtc2_data / name), golden_of(xtc2_data, name))


def test_later_chunk_is_read_with_the_configure_of_the_first(psana: Any, xtc2_data: Path) -> None:
    golden = golden_of(xtc2_data, "chunking/data-r0001-s000-c001.xtc2")
    first = xtc2_data / golden["external_config"]
    check_dgrams(psana.dgrams(xtc2_data / "chunking/data-r0001-s000-c001.xtc2", config=first), golden)


def check_dgrams(answer: dict[str, Any], golden: dict[str, Any]) -> None:
    """Compare headers, damage and every field of every dgram."""
    assert answer["filesize"] == golden["filesize"]
    assert len(answer["dgrams"]) == golden["ndgrams"]
    for ours, theirs in zip(answer["dgrams"], golden["dgrams"], strict=True):
        assert {key: ours[key] for key in HEADER} == {key: theirs[key] for key in HEADER}
        assert sorted(ours["xtc_damage"]) == sorted(theirs["xtc_damage"])
        assert by_name(ours["fields"]) == by_name(theirs["fields"])


def test_truncated_tail_is_told_apart_from_the_last_dgram(
    psana: Any, xtc2_data: Path, tmp_path: Path
) -> None:
    whole = (xtc2_data / "intg_det/xpptut15-r0014-s002-c000.xtc2").read_bytes()
    cut = tmp_path / "cut.xtc2"
    cut.write_bytes(whole[:-5])
    answer = psana.dgrams(cut)
    assert answer["tail_bytes"] == 19
    assert answer["dgrams"][-1]["service_name"] == "EndStep"


def test_single_file_is_opened_as_a_user_does(psana: Any, xtc2_data: Path) -> None:
    (run,) = psana.files(xtc2_data / "test_jungfrau05M_calib.xtc2", "jungfrau", steps=True)
    assert (run["expt"], run["runnum"], run["timestamp"]) == ("mfx101332224", 7, 4776162078881255856)
    (step,) = run["steps"]
    assert [event["timestamp"] for event in step["events"]] == [4776162079372773723, 4776162079381031262]
    assert step["events"][0]["raw"]["jungfrau"]["shape"] == [1, 512, 1024]


def test_run_of_three_streams_is_built_from_its_smalldata(psana: Any, xtc2_data: Path) -> None:
    (run,) = psana.run("xpptut15", 14, xtc2_data / "intg_det")
    assert len(run["events"]) == 17
    present = [[stream is not None for stream in event["streams"]] for event in run["events"]]
    assert [sum(column) for column in zip(*present, strict=True)] == [17, 5, 2]


def test_arrays_are_saved_on_request(psana: Any, xtc2_data: Path, tmp_path: Path) -> None:
    answer = psana.dgrams(xtc2_data / "intg_det/xpptut15-r0014-s002-c000.xtc2", arrays=tmp_path / "arrays")
    saved = [
        Path(field["file"]) for dgram in answer["dgrams"] for field in dgram["fields"] if "file" in field
    ]
    assert [len(path.read_bytes()) for path in saved] == [16, 16]
