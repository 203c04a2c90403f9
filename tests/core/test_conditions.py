"""Conditions on trigger words: what they say of an event is what a plain evaluator says, and what cannot be read is told."""

import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drp.core.conditions import ConditionError, Conditions

WORDS = {"epix_0": ("hit", "npeaks"), "timing_1": ("code", "charge")}
TYPES = {"hit": np.uint8, "npeaks": np.uint32, "code": np.int64, "charge": np.float64}
COMPARE = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}

names = st.sampled_from(["hit", "npeaks", "code", "epix_0.hit", "epix_0.npeaks", "timing_1.charge", "charge"])
numbers = st.integers(0, 9).map(str) | st.floats(0, 9, width=16).map(repr)


def sums(depth=2):
    """(text, function of an event) of a number; an event is {name: number or None}."""
    word = names.map(lambda name: (name, lambda event: event[name.split(".")[-1]]))
    number = numbers.map(lambda text: (text, lambda event, value=float(text): value))
    if depth == 0:
        return word | number
    inner = sums(depth - 1)

    def joined(sign, left, right):
        def value(event):
            a, b = left[1](event), right[1](event)
            if a is None or b is None:
                return None
            with np.errstate(all="ignore"):
                return {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}[sign](
                    np.float64(a), np.float64(b)
                )

        return f"({left[0]} {sign} {right[0]})", value

    def minus(part):
        return f"-{part[0]}", lambda event: None if part[1](event) is None else -np.float64(part[1](event))

    return word | number | st.builds(joined, st.sampled_from("+-*/"), inner, inner) | inner.map(minus)


def conditions(depth=3):
    """(text, function of an event that gives True, False or None: not known)."""

    def compared(sign, left, right):
        def truth(event):
            a, b = left[1](event), right[1](event)
            return None if a is None or b is None else bool(COMPARE[sign](a, b))

        return f"{left[0]} {sign} {right[0]}", truth

    def alone(part):
        return part[0], lambda event: None if part[1](event) is None else bool(part[1](event) != 0)

    flat = st.builds(compared, st.sampled_from(list(COMPARE)), sums(), sums()) | sums().map(alone)
    if depth == 0:
        return flat
    inner = conditions(depth - 1)

    def joined(sign, left, right):
        def truth(event):
            decides = sign == "or"
            values = [left[1](event), right[1](event)]
            if decides in values:
                return decides
            return None if None in values else not decides

        return f"({left[0]} {sign} {right[0]})", truth

    def inverse(part):
        return f"not ({part[0]})", lambda event: None if part[1](event) is None else not part[1](event)

    return flat | st.builds(joined, st.sampled_from(["and", "or"]), inner, inner) | inner.map(inverse)


events = st.fixed_dictionaries(
    {
        "hit": st.integers(0, 2),
        "npeaks": st.integers(0, 9),
        "code": st.integers(-9, 9),
        "charge": st.floats(-9, 9, width=16),
    }
)


@settings(max_examples=60, deadline=None)
@given(conditions(), st.lists(st.tuples(events, st.booleans(), st.booleans()), min_size=1, max_size=6))
def test_a_condition_says_of_each_event_what_a_plain_evaluator_says(condition, told):
    text, truth = condition
    columns, plain = {}, []
    known = {"epix_0": np.array([one[1] for one in told]), "timing_1": np.array([one[2] for one in told])}
    for alias, words in WORDS.items():
        for word in words:
            columns[(alias, word)] = np.array([one[0][word] for one in told], TYPES[word])
    for event, epix, timing in told:
        there = {"hit": epix, "npeaks": epix, "code": timing, "charge": timing}
        plain.append(truth({name: event[name] if there[name] else None for name in event}) is not False)
    bound = Conditions.parse(text).bind(WORDS)
    assert bound.evaluate(columns, len(told), known).tolist() == plain


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab.()<>=!+-*/ 019eandortx_&'[", max_size=60) | st.text(max_size=40))
def test_any_text_is_read_or_refused_with_its_column(text):
    try:
        Conditions.parse(text)
    except ConditionError as error:
        assert 1 <= error.column <= len(text) + 1


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("npeaks = 3", 8, "Write '=='"),
        ("npeaks > 3 && hit", 12, "Write 'and'"),
        ("npeaks >", 9, "missing at the end"),
        ("", 1, "missing at the end"),
        ("(npeaks > 3", 12, "')' is missing"),
        ("1 < npeaks < 3", 12, "Join comparisons with 'and'"),
        ("npeaks 3", 8, "'3' is one too many"),
        ("(npeaks > 3) + 1", 9, "gives a condition"),
        ("not and", 5, "not 'and'"),
        ("epix_0. > 1", 9, "after '.'"),
        ("__import__(os)", 11, "is one too many"),
        ("open('x')", 6, "means nothing here"),
        ("(" * 60 + "1" + ")" * 60, 51, "levels deep"),
        ("1+" * 3000 + "1", 4096, "too many"),
        ("1+" * 300 + "1", 401, "more than 400"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_column_and_what_to_write(text, column, said):
    with pytest.raises(ConditionError) as caught:
        Conditions.parse(text)
    assert caught.value.column == column
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("hit == 1 and npeak > 3", 14, "Did you mean 'npeaks'"),
        ("epix_1.hit", 1, "Did you mean 'epix_0'"),
        ("epix_0.charge > 1", 1, "epix_0 has no trigger word 'charge'"),
        ("both > 1", 1, "epix_0.both, timing_1.both"),
    ],
)
def test_words_that_are_not_there_are_told_with_near_misses(text, column, said):
    words = {alias: (*names, "both") for alias, names in WORDS.items()}
    with pytest.raises(ConditionError, match="condition") as caught:
        Conditions.parse(text).bind(words)
    assert caught.value.column == column
    assert said in str(caught.value)


def test_a_word_without_contributor_is_that_of_the_default_one():
    bound = Conditions.parse("both > 1 and charge > 0").bind({"a": ["both"], "b": ["both", "charge"]}, "a")
    assert bound.columns == (("a", "both"), ("b", "charge"))


def test_64_bit_words_are_compared_exactly():
    big = np.array([2**63 + 1, 2**63], np.uint64)
    bound = Conditions.parse(f"n == {2**63 + 1}").bind({"a": ["n"]})
    assert bound.evaluate({("a", "n"): big}, 2).tolist() == [True, False]


def test_a_difference_of_unsigned_words_may_be_negative():
    bound = Conditions.parse("a - b < 0").bind({"d": ["a", "b"]})
    columns = {("d", "a"): np.array([1], np.uint32), ("d", "b"): np.array([2], np.uint32)}
    assert bound.evaluate(columns, 1).tolist() == [True]


def test_a_condition_of_numbers_alone_holds_for_every_event():
    assert Conditions.parse("2 > 1").bind({}).evaluate({}, 3).tolist() == [True] * 3
    assert Conditions.parse("0").bind({}).evaluate({}, 3).tolist() == [False] * 3


def test_an_event_without_the_words_of_a_contributor_is_kept_unless_the_others_settle_it():
    bound = Conditions.parse("hit == 1 and code == 7").bind(WORDS)
    columns = {("epix_0", "hit"): np.array([1, 0]), ("timing_1", "code"): np.array([0, 0])}
    gave = {"timing_1": np.array([False, False])}
    assert bound.evaluate(columns, 2, gave).tolist() == [True, False]
