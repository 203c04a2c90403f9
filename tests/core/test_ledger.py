"""The ledger closes exactly when every event has one fate; damage is told apart by origin."""

from drp.core.ledger import FATE_TEXT, LEDGER_FIELDS, Cause, DamageCounts, Fate, Ledger
from xtc import Damage


def test_ledger_closes_only_on_the_source_count() -> None:
    ledger = Ledger()
    ledger.count(Fate.recorded_no_verdict, 990)
    ledger.count(Fate.filtered, 9)
    assert ledger.total == 999
    assert not ledger.closes(1000)
    ledger.count(Fate.lost_with_process)
    assert ledger.closes(1000)
    assert (ledger.recorded, ledger.lost, ledger[Fate.filtered]) == (990, 1, 9)


def test_every_fate_is_in_the_report_in_the_file_and_has_a_text() -> None:
    ledger = Ledger()
    assert list(ledger.as_dict()) == [*(fate.name for fate in Fate), "total"]
    assert LEDGER_FIELDS[: len(Fate)] == tuple(fate.name for fate in Fate)
    assert set(FATE_TEXT) == set(Fate)
    ledger.count(Fate.filtered, 3)
    assert tuple(ledger.as_fields()) == LEDGER_FIELDS
    assert all(isinstance(value, int) for value in ledger.as_fields().values())


def test_damage_without_a_code_is_not_told_as_one() -> None:
    counts = DamageCounts(20, [0, 20, *[0] * 10], [20, *[0] * 15])
    assert counts.as_dict() == {"events": 20, "bits": {"OutOfOrder": 20}, "codes": {}}


def test_damage_is_counted_by_origin_bit_and_code() -> None:
    ledger = Ledger()
    ledger.count_damage(incoming=Damage.MissingData | Damage.OutOfOrder)
    ledger.count_damage(incoming=Damage.MissingData, drp=Cause.timed_out.damage)
    ledger.count_damage(script=Damage.Truncated.with_user_code(9))
    ledger.count_damage()
    assert ledger.damage_as_dict() == {
        "incoming": {"events": 2, "bits": {"OutOfOrder": 1, "MissingData": 2}, "codes": {}},
        "drp": {"events": 1, "bits": {"TimedOut": 1}, "codes": {"timed_out": 1}},
        "script": {"events": 1, "bits": {"Truncated": 1}, "codes": {"script_9": 1}},
        "trigger": {"events": 0, "bits": {}, "codes": {}},
    }
    assert ledger.as_fields()["drp_timed_out"] == 1
    assert ledger.as_fields()["damaged_incoming"] == 2


def test_only_time_outs_and_overflows_set_a_bit_beside_the_code() -> None:
    words = {cause: int(cause.damage) for cause in Cause}
    assert words[Cause.timed_out] == 2 << 12 | 1 << 6
    assert words[Cause.truncated] == 4 << 12 | 1
    assert all(words[c] == c << 12 for c in Cause if c not in (Cause.timed_out, Cause.truncated))


def test_ledgers_of_two_threads_add_up() -> None:
    one, two = Ledger(), Ledger()
    one.count(Fate.recorded_verdict, 5)
    two.count(Fate.recorded_verdict, 7)
    two.count_damage(drp=Cause.died.damage)
    one.add(two)
    assert one[Fate.recorded_verdict] == 12
    assert one.drp.codes[Cause.died] == 1


def test_summary_tells_an_open_ledger_loudly() -> None:
    ledger = Ledger()
    ledger.count(Fate.not_recorded, 1234)
    assert ledger.as_text(1234)[-1] == "  1,234  of 1,234 events of the source: the ledger closes"
    assert "DOES NOT CLOSE" in ledger.as_text(1235)[-1]
    ledger.count_damage(drp=Cause.raised.damage)
    assert ledger.as_text(1234)[-1] == "  damaged, by drp: 1 (raised 1)"
