"""One dgram of several contributors' reads as psana reads their streams."""

import numpy as np
import pytest
from dgrams import Builder

from drp.meb._merge import Nodes, merge, nodes_of, split
from drp.meb.setup import Setup
from xtc import Config, Damage, Dgram, TransitionId


def builders() -> tuple[Builder, Builder]:
    a, b = Builder(1), Builder(1)
    one = b.raw[0]
    b.raw = [type(one)(one.names_id, one.dettype, "other", "serial9", 3, one.alg, one.fields)]
    b.names = [*b.raw, *b.names[1:]]
    return a, b


def test_names_of_the_same_number_are_told_apart_and_their_data_with_them() -> None:
    a, b = builders()
    b.time += 10_000
    setup = Setup()
    assert setup.take({0: memoryview(a.configure()), 1: memoryview(b.configure())}, all_of_them=True)
    config = Config(Dgram(setup.merged))
    found = {(one.detname, one.segment) for one in config.names.values() if one.alg.name == "raw"}
    assert {("cam", 0), ("other", 3)} <= found
    nodes = [setup.nodes(0), setup.nodes(1)]
    event = merge([(a.event(5), nodes[0]), (b.event(7), nodes[1])], 32)
    assert event[:32] == bytes(32)
    dgram = Dgram(bytes(event[32:]), config=config)
    assert dgram.service == TransitionId.L1Accept and dgram.damage == 0
    values = {value.names.detname: value.value for value in dgram.fields() if value.field.name == "raw"}
    np.testing.assert_array_equal(values["cam"], a.frame(5, 0))
    np.testing.assert_array_equal(values["other"], b.frame(7, 0))


def test_an_unchanged_configure_is_known_again_whatever_its_time() -> None:
    a, b = builders()
    setup = Setup()
    both = {0: memoryview(a.configure()), 1: memoryview(b.configure())}
    assert setup.take(both, all_of_them=True)
    again = {0: memoryview(a.configure()), 1: memoryview(b.configure())}
    assert bytes(again[0]) != bytes(both[0]) and not setup.take(again, all_of_them=True)
    assert setup.take({0: again[0]}, all_of_them=True)


def test_a_payload_that_does_not_add_up_is_left_out_and_marked() -> None:
    a, _ = builders()
    good, bad = a.event(1), bytearray(a.event(2))
    bad[24 + 8 : 24 + 12] = (1 << 30).to_bytes(4, "little")
    merged = Dgram(bytes(merge([(good, Nodes()), (bad, Nodes())])))
    assert merged.damage & Damage.DroppedContribution
    assert bytes(merged.view)[24:] == good[24:]
    cut = merge([(good[:-4], Nodes()), (good, Nodes())])
    assert Dgram(bytes(cut)).damage & Damage.DroppedContribution
    with pytest.raises(ValueError, match="no dgram to merge"):
        merge([(b"short", Nodes())])


def test_nodes_are_those_of_names_and_nothing_for_rubbish() -> None:
    a, _ = builders()
    assert nodes_of(a.configure()) == {1}
    assert nodes_of(b"rubbish") == set() == nodes_of(bytes(40))


def test_dgrams_one_after_the_other_are_parted() -> None:
    a, _ = builders()
    both = [a.configure(), a.begin_run()]
    assert [bytes(one) for one in split(memoryview(b"".join(both)))] == both
    with pytest.raises(ValueError, match="are no dgram"):
        list(split(memoryview(both[0][:-1])))
