"""A trigger script's view: events by contributor and word, psdaq's verbs, and one decision for each event."""

from __future__ import annotations

import json
import struct
import sys
from unittest import mock

import numpy as np
import psdaq_script
import pytest
from built_events import BOTH, EPIX, TIMING, built, peaks, stream
from script_feed import ListFeed

from drp.core.batch import Contributor
from drp.core.wire import CONTRIBUTION
from drp.script import tebdata
from drp.script._link import FeedLink
from drp.script.errors import ScriptError
from drp.script.info import DrpInfo
from drp.script.worker import serve
from xtc import TransitionId

HEAD = "from drp import TriggerDataSource\nds = TriggerDataSource()\n"


@pytest.fixture
def decide(tmp_path):
    """Runs a trigger script on batches; returns the results of each batch, and the failure, if any."""

    def run(text, batches, contributors=BOTH, **told):
        path = tmp_path / "trigger.py"
        path.write_text(text)
        feed = ListFeed(stream(contributors, batches, **told))
        with mock.patch.dict(sys.modules):
            code = serve(FeedLink(feed), DrpInfo(), [str(path), "--code", "7"], trigger=True)
        answers = feed.of(TransitionId.L1Accept)
        results = [np.frombuffer(one.data, "<u4").tolist() for one in answers if not one.json]
        failed = [one.json for one in feed.answers if "traceback" in one.json]
        assert (code == 0) == (not failed)
        return results, failed[0] if failed else None

    return run


def test_each_event_of_each_batch_is_decided_on_by_words_by_name(decide):
    text = HEAD + "for evt in ds.events():\n    ds.result(evt['epix_0'].npeaks > 15, 0)\n"
    results, failed = decide(text, [peaks([1, 16]), peaks([20], first=200)])
    assert (results, failed) == ([[0, 2], [2]], None)


def test_a_result_has_the_bits_of_a_resultdgram(decide):
    text = HEAD + (
        "kinds = iter([dict(monitor=5), dict(monitor=0xffffffff), dict(prescale=True), dict(aux=0xabcdef), dict(monitor=True)])\n"
        "for evt in ds.events():\n    ds.result(False, **next(kinds))\n"
    )
    assert decide(text, [peaks([0] * 5)])[0] == [[5 << 2, 0x3C, 1, 0xABCDEF00, 4]]


def test_an_event_and_its_contributions_say_what_psdaqs_do(decide, tmp_path):
    text = HEAD + (
        "import json\nout = []\n"
        "for evt in ds.events():\n"
        "    for c in evt:\n"
        "        out.append([c.alias, c.pulseId(), c.time.seconds(), c.time.nanoseconds(), c.env, c.service(), c.readoutGroups(),\n"
        "                    c.xtc.src.value(), c.xtc.damage.value(), len(c.xtc.payload()), c.xtc.sizeofPayload(), c.xtc.extent])\n"
        "    out.append([evt.pulse_id, evt.timestamp, evt.env, evt.readoutGroups(), evt.keepraw(), list(evt.missing), 'epix_0' in evt, 'timing_1' in evt])\n"
        "    ds.result(True)\n"
        f"import pathlib; pathlib.Path({str(tmp_path / 'seen')!r}).write_text(json.dumps(out))\n"
    )
    events, rows = built(BOTH, [{"epix_0": {"npeaks": 3}}], env=3 | 1 << 22)
    rows[0][0, :32].view(CONTRIBUTION)["damage"] = 64
    assert decide(text, [(events, rows)]) == ([[2]], None)
    env = 12 << 24 | 1 << 22 | 3
    assert json.loads((tmp_path / "seen").read_text()) == [
        ["epix_0", 100, 5, 100000, env, 12, 3, 3, 64, 12, 12, 24],
        [100, (5 << 32) + 100000, env, 3, 1, ["timing_1"], True, False],
    ]


def test_words_of_every_type_are_read(decide, tmp_path):
    kinds = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"]
    many = Contributor(1, "many_0", 0, tuple((f"w_{kind}", f"<{kind}") for kind in kinds))
    values = [255, 65535, 2**32 - 1, 2**64 - 1, -128, -32768, -(2**31), -(2**63), 0.5, -1e300]
    text = HEAD + (
        f"kinds = {kinds!r}\nfor evt in ds.events():\n"
        f"    assert [getattr(evt['many_0'], 'w_' + kind) for kind in kinds] == {values!r}\n    ds.result(True)\n"
    )
    events, rows = built((many,), [{"many_0": {}}])
    record = np.zeros(1, many.dtype)
    for kind, value in zip(kinds, values, strict=True):
        record[f"w_{kind}"] = np.array(value, f"<{kind}")
    rows[0][0, 32 : 32 + many.dtype.itemsize] = record.view(np.uint8)
    assert decide(text, [(events, rows)], (many,)) == ([[2]], None)


def test_a_detector_that_did_not_contribute_gives_none_and_its_words_are_false(decide):
    text = HEAD + (
        "from psdaq.trigger.TimingTebData import TimingTebData\n"
        "det = ds.detector('timing_1', TimingTebData)\n"
        "for evt in ds.events():\n"
        "    data = det.trigger(evt)\n"
        "    assert bool(evt['timing_1']) == (data is not None)\n"
        "    ds.result(data is not None and data.has_eventcode(40))\n"
    )
    words = [{"epix_0": {}}, {"timing_1": {"codes1": 1 << 8}}, {"timing_1": {"codes1": 1 << 9}}]
    assert decide(text, [built(BOTH, words)]) == ([[0, 2, 0]], None)


@pytest.mark.parametrize(
    ("loop", "kind", "said"),
    [
        ("    pass", "ScriptError", "no result was given for the event of pulse id 0x64"),
        (
            "    ds.result(True); ds.result(False)",
            "ScriptError",
            "a second result was given for the event of pulse id 0x64",
        ),
        ("    ds.result(None)", "ScriptError", "persist is true or false"),
        ("    ds.result('no')", "ScriptError", "persist is true or false"),
        ("    ds.result(True, 'ami')", "ScriptError", "monitor is a mask"),
        ("    ds.result(True, aux=1 << 24)", "ScriptError", "24 bits"),
        ("    evt['epix_1']", "UnknownNameError", "Did you mean 'epix_0'"),
        ("    evt['epix_0'].npeak", "AttributeError", "Did you mean 'npeaks'"),
        (
            "    evt['timing_1'].beam",
            "ScriptError",
            "timing_1 gave no trigger words in <event of pulse id 0x64>",
        ),
        ("    break", "LeftEventLoop", "before its run had ended"),
    ],
)
def test_a_script_that_does_not_decide_is_told_where_and_what_to_do(decide, loop, kind, said):
    results, failed = decide(HEAD + f"for evt in ds.events():\n{loop}\n", [built(BOTH, [{"epix_0": {}}] * 2)])
    assert results == []
    assert failed["kind"] == kind
    assert said in failed["message"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "ds.result(True)", "no event in hand"),
        (HEAD + "ds.detector('cam_0', bytes)", "no contributor 'cam_0'"),
        ("from drp import DataSource; DataSource()", "TriggerDataSource"),
        ("from psdaq.trigger import tebTrigger; tebTrigger.CubeTriggerDataSource({})", "is not there"),
        (HEAD + "TriggerDataSource()", "already has a DataSource"),
        (
            HEAD
            + "from psdaq.configdb.get_config import *; get_config(ds.connect_json, 'BEAM', 'trigger', 1)",
            "Did you mean 'trigger_0'",
        ),
        (
            HEAD
            + "from psdaq.configdb.get_config import *; get_config(ds.connect_json, 'CALIB', 'trigger', 0)",
            "configured as 'BEAM'",
        ),
    ],
)
def test_what_cannot_be_set_up_fails_the_configure(decide, text, said):
    _, failed = decide(text, [peaks([1])], config_alias="BEAM", configs={"trigger_0": {}})
    assert said in failed["message"]


def test_an_event_kept_beyond_its_batch_says_that_it_is_stale(decide):
    text = HEAD + (
        "from drp.script.errors import StaleEventError\n"
        "kept = []\n"
        "for evt in ds.events():\n"
        "    for old in kept:\n"
        "        try:\n            old.pulse_id\n        except StaleEventError:\n            ds.result(True)\n            break\n"
        "    else:\n        ds.result(False)\n"
        "    kept.append(evt)\n"
    )
    assert decide(text, [peaks([1, 2]), peaks([3], first=200)]) == ([[0, 0], [2]], None)


def test_a_script_of_psdaqs_constructs_runs_unchanged(decide):
    words = (("write", "<u4"), ("monitor", "<u4"))
    who = (Contributor(1, "epix_0", 1, words), Contributor(4, "fast_0", 0, words))
    keep, show = {"write": 0xDEADBEEF}, {"monitor": 0x12345678}
    batches = [
        built(who, [{"epix_0": {}, "fast_0": keep}, {"epix_0": keep | show, "fast_0": {}}], env=3),
        built(who, [{"fast_0": show}, {"fast_0": keep}], first=200, env=1),
    ]
    config = {"persistValue:RO": 0xDEADBEEF, "monitorValue": 0x12345678, "alg:RO": {"version:RO": [1, 0, 0]}}
    results, failed = decide(
        psdaq_script.SCRIPT,
        batches,
        who,
        config_alias="BEAM",
        configs={"trigger_0": config},
        mebs={"ami-meb0": 0, "usr-meb": 2},
    )
    assert failed is None
    assert results == [[2, 2 | 1 << 2], [4 << 2, 2]]


def test_mebs_are_found_by_name(decide):
    text = HEAD + (
        "assert ds.mebs() == 0b1011 and ds.mebs('ami') == 0b11 and ds.mebs(['usr', 'ami-meb1']) == 0b1010 and ds.mebs('x') == 0\n"
        "assert ds.args.p == 5 and ds.contributors == {'epix_0': ('npeaks', 'total')}\n"
        "import sys; assert sys.argv[1:] == ['--code', '7']\n"
        "for evt in ds.events(): ds.result(True)\n"
    )
    mebs = {"ami-meb0": 0, "ami-meb1": 1, "usr": 3}
    one = [built((EPIX,), [{"epix_0": {}}])]
    assert decide(text, one, (EPIX,), mebs=mebs, platform=5) == ([[2]], None)


def test_every_name_of_psdaq_is_served_in_its_package_and_alone(decide):
    names = [
        "tebTrigger",
        "TmoTebData",
        "TimingTebData",
        "BldTebData",
        "HrEncoderTebData",
        "Piranha4TTTebData",
        "TripperTebData",
    ]
    lines = [f"import {one}; import psdaq.trigger.{one}; from psdaq.trigger import {one}" for one in names]
    lines += [f"from {one} import {one}; from psdaq.trigger.{one} import {one}" for one in names[1:]]
    lines += [
        "import psdaq.configdb.get_config",
        "ds = tebTrigger if hasattr(tebTrigger, 'events') else __import__('tebTrigger').TriggerDataSource()",
    ]
    text = "\n".join(lines) + "\nfor evt in ds.events(): ds.result(1, 0)\n"
    assert decide(text, [peaks([1])]) == ([[2]], None)


@pytest.mark.parametrize("layout", ["<B3x9I", "<B9I"])
def test_timing_data_are_read_aligned_and_packed(layout):
    codes = [0] * 9
    for code in (1, 40, 255, 287):
        codes[code >> 5] |= 1 << (code & 31)
    data = tebdata.TimingTebData(struct.pack(layout, 0x80 | 5, *codes))
    assert data.has_destination(5)
    assert not data.has_destination(4)
    assert data.eventcodes() == [1, 40, 255, 287]
    assert [data.has_eventcode(code) for code in (0, 1, 255)] == [0, 1, 1]
    assert data.eventcodes_to_int(250, 290 - 3) == 1 << 5 | 1 << 37
    assert tebdata.TimingTebData(bytes(TIMING.dtype.itemsize)).eventcodes() == []
    with pytest.raises(ScriptError, match=r"0\.\.287"):
        data.has_eventcode(288)


def test_the_other_payloads_are_read_by_their_layouts():
    mask = 1 | 1 << 2 | 1 << 5
    bld = tebdata.BldTebData(struct.pack("<QdQ4dQd", mask, 1.5, 7, 0.1, 0.2, 3.0, 4.0, 9, 13.6))
    assert (bld.gmd().milliJoulesPerPulse(), bld.gmd().severity()) == (1.5, 7)
    assert (bld.pcav().fitTime2(), bld.pcav().charge1(), bld.ebeam().l3Energy()) == (0.2, 3.0, 13.6)
    assert [bld.xgmd(), bld.pcavs(), bld.gasdet(), bld.ebeams()] == [None] * 4
    encoder = tebdata.HrEncoderTebData(struct.pack("<iBBBB", -5, 1, 2, 0xE0, 0))
    assert (encoder.position(), encoder.encErrCnt(), encoder.missedTrigCnt(), encoder.latches()) == (
        -5,
        1,
        2,
        0xE0,
    )
    tool = tebdata.Piranha4TTTebData(struct.pack("<6d", 1, 2, 3, 4, 5, 6))
    assert (
        tool.valid(),
        tool.fltpos(),
        tool.fltpos_ps(),
        tool.fltpos_fwhm(),
        tool.amplnxt(),
        tool.refampl(),
    ) == (True, 2, 3, 4, 5, 6)
    assert not tebdata.Piranha4TTTebData(struct.pack("<6d", -1, 0, 0, 0, 0, 0)).valid()
    tripper = tebdata.TripperTebData(struct.pack("<HII26x30s", 9, 70000, 80000, b"jungfrau"))
    assert (tripper.hotPixelThresh, tripper.numHotPixels, tripper.maxHotPixels, tripper.detType) == (
        9,
        70000,
        80000,
        "jungfrau",
    )
    assert tripper.seqInfo[:3] == (9, 70000 & 0xFFFF, 70000 >> 16)
    assert tebdata.TmoTebData(b"").write == 0
    with pytest.raises(ScriptError, match="too short"):
        tebdata.TmoTebData(b"1234")
