"""Simple conditions on trigger words, as `--keep-if "npeaks > 15 and epix_0.hit == 1"` has them: our own grammar, never evaluated as Python.

    condition  = both { "or" both }
    both       = inverse { "and" inverse }
    inverse    = "not" inverse | comparison
    comparison = sum [ ( "<" | "<=" | ">" | ">=" | "==" | "!=" ) sum ]
    sum        = product { ( "+" | "-" ) product }
    product    = factor { ( "*" | "/" ) factor }
    factor     = ( "-" | "+" ) factor | number | word | contributor "." word | "(" condition ")"

A number alone is true where it is not 0. Words and numbers are compared exactly as they are; what is calculated is calculated in float64 by the
rules of IEEE, so that a division by 0 is no error.

Where a contributor has no words in an event (it did not contribute, its script failed), what depends on them is not known; `and`, `or` and `not`
carry that on, unless the other side settles it: false and unknown is false. An event of which the whole is not known is kept.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from drp.core.errors import DrpError

MAX_TEXT = 4096
MAX_TOKENS = 400
MAX_DEPTH = 50
Bools = npt.NDArray[np.bool_]
Column = tuple[str, str]
"""A word: contributor (alias) and name."""

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|0[xX][0-9a-fA-F]+)|(?P<word>[A-Za-z_]\w*)|(?P<sign><=|>=|==|!=|[-<>+*/().]))",
    re.ASCII,
)
_HEX = re.compile(r"\s*0[xX][0-9a-fA-F]+")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
}
_REDUCE: dict[str, Callable[[Any, Any], Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
}
_LOGICAL = ("and", "or", "not")
_INSTEAD = {"=": "==", "&": "and", "|": "or", "!": "not", "^": "!="}


class ConditionError(DrpError):
    """A condition that cannot be read, or that names what is not there. Fields: `text`, `column` (from 1)."""

    def __init__(self, what: str, *, text: str, column: int, hint: str = "") -> None:
        super().__init__(what, hint=hint)
        self.text = text
        self.column = column

    @property
    def where(self) -> str:
        return f"condition {self.text!r}, column {self.column}"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    column: int


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it is written."""

    value: int | float
    column: int


@dataclass(frozen=True, slots=True)
class Word:
    """A trigger word; `contributor` is empty where it is not named."""

    contributor: str
    name: str
    column: int


@dataclass(frozen=True, slots=True)
class Operation:
    """What joins one node (not, unary -) or two."""

    sign: str
    parts: tuple[Node, ...]
    column: int


Node = Number | Word | Operation


@dataclass(frozen=True, slots=True)
class Conditions:
    """A condition that was read, and not yet bound to the words there are."""

    text: str
    root: Node

    @classmethod
    def parse(cls, text: str) -> Conditions:
        """Read a condition; raise ConditionError."""
        return cls(text, _Parser(text).whole())

    def bind(self, words: Mapping[str, Iterable[str]], default: str | None = None) -> Bound:
        """Find the words among those of each contributor.

        A word without its contributor is that of `default`, or else of the only contributor that has one of this name. Raises ConditionError.
        """
        known = {alias: tuple(names) for alias, names in words.items()}
        places = {word: self._find(word, known, default) for word in _words(self.root)}
        return Bound(self, places, tuple(dict.fromkeys(places.values())))

    def _find(self, word: Word, known: Mapping[str, tuple[str, ...]], default: str | None) -> Column:
        if word.contributor:
            names = known.get(word.contributor)
            if names is None:
                raise self._error(
                    f"there is no contributor {word.contributor!r}",
                    word.column,
                    _near(word.contributor, known),
                )
            if word.name not in names:
                raise self._error(
                    f"{word.contributor} has no trigger word {word.name!r}",
                    word.column,
                    _near(word.name, names),
                )
            return word.contributor, word.name
        if default is not None and word.name in known.get(default, ()):
            return default, word.name
        owners = [alias for alias, names in known.items() if word.name in names]
        if not owners:
            everything = [one for names in known.values() for one in names]
            raise self._error(
                f"there is no trigger word {word.name!r}", word.column, _near(word.name, everything)
            )
        if len(owners) > 1:
            raise self._error(
                f"several contributors have a word {word.name!r}",
                word.column,
                f"Say which: {', '.join(f'{alias}.{word.name}' for alias in sorted(owners)[:8])}.",
            )
        return owners[0], word.name

    def _error(self, what: str, column: int, hint: str) -> ConditionError:
        return ConditionError(what, text=self.text, column=column, hint=hint)


@dataclass(frozen=True, slots=True)
class Bound:
    """A condition whose words are found. `columns`: those it needs, each once."""

    conditions: Conditions
    places: Mapping[Word, Column]
    columns: tuple[Column, ...]

    def evaluate(
        self, columns: Mapping[Column, npt.NDArray[Any]], n: int, known: Mapping[str, Bools] | None = None
    ) -> Bools:
        """Return which of `n` events are kept, (n,) bool.

        `columns`: the words' values, (n,) each, of any number type; `known`: by contributor, (n,) bool, where it gave its words; contributors that
        are not there gave them always.
        """
        given = _Given(self, columns, known or {}, n)
        with np.errstate(all="ignore"):
            true, sure = given.truth(self.conditions.root)
        return np.broadcast_to(true | ~sure, (n,)).copy()


@dataclass(frozen=True, slots=True)
class _Given:
    bound: Bound
    columns: Mapping[Column, npt.NDArray[Any]]
    known: Mapping[str, Bools]
    n: int

    def truth(self, node: Node) -> tuple[Any, Any]:
        """Return whether it is true, and whether that is known: each a bool array, or one bool for all."""
        if not isinstance(node, Operation) or node.sign in _REDUCE:
            value, sure = self.value(node)
            return np.not_equal(value, 0), sure
        if node.sign == "not":
            true, sure = self.truth(node.parts[0])
            return np.logical_not(true), sure
        if node.sign in _COMPARE:
            (left, one), (right, other) = (self.value(part) for part in node.parts)
            return _COMPARE[node.sign](left, right), np.logical_and(one, other)
        (left, one), (right, other) = (self.truth(part) for part in node.parts)
        both = np.logical_and(one, other)
        if node.sign == "and":
            settled = (one & ~left) | (other & ~right)
            return np.logical_and(left, right) & both, both | settled
        settled = (one & left) | (other & right)
        return settled, both | settled

    def value(self, node: Node) -> tuple[Any, Any]:
        """Return its number, and whether that is known."""
        yes = np.True_
        if isinstance(node, Number):
            return node.value, yes
        if isinstance(node, Word):
            place = self.bound.places[node]
            return self.columns[place], self.known.get(place[0], yes)
        if node.sign in _REDUCE:
            parts = [self.value(part) for part in node.parts]
            numbers = [np.asarray(value, np.float64) for value, _ in parts]
            if len(numbers) == 1:
                return -numbers[0], parts[0][1]
            return _REDUCE[node.sign](*numbers), np.logical_and(parts[0][1], parts[1][1])
        raise AssertionError(node)  # the parser lets no truth be a number


class _Parser:
    """Read one condition by recursive descent."""

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > MAX_TEXT:
            raise ConditionError(
                f"{len(text)} characters are too many", text=f"{text[:40]}...", column=MAX_TEXT
            )
        self.tokens = list(self._scan())
        if len(self.tokens) > MAX_TOKENS:
            raise self._error(f"more than {MAX_TOKENS} words and signs", self.tokens[MAX_TOKENS].column)
        self.at = 0
        self.depth = 0

    def _scan(self) -> Iterable[_Token]:
        at = 0
        while self.text[at:].strip():
            match = _HEX.match(self.text, at) or _TOKEN.match(self.text, at)
            if match is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                sign = self.text[at]
                instead = _INSTEAD.get(sign, "")
                raise self._error(
                    f"{sign!r} means nothing here", at + 1, f"Write {instead!r}." if instead else ""
                )
            kind = match.lastgroup or "number"
            found = match[0].strip()
            yield _Token(kind, found, match.end() - len(found) + 1)
            at = match.end()
        yield _Token("end", "", len(self.text) + 1)

    @property
    def _next(self) -> _Token:
        return self.tokens[self.at]

    def _take(self, *texts: str) -> _Token | None:
        token = self._next
        if token.text not in texts or token.kind == "end":
            return None
        self.at += 1
        return token

    def _error(self, what: str, column: int, hint: str = "") -> ConditionError:
        return ConditionError(what, text=self.text, column=column, hint=hint)

    def whole(self) -> Node:
        node = self._or()
        token = self._next
        if token.kind != "end":
            chained = token.text in _COMPARE
            raise self._error(
                f"{token.text!r} is one too many",
                token.column,
                "Join comparisons with 'and'." if chained else "Join conditions with 'and' or 'or'.",
            )
        return node

    def _or(self) -> Node:
        return self._joined("or", lambda: self._joined("and", self._inverse))

    def _joined(self, sign: str, part: Callable[[], Node]) -> Node:
        node = part()
        while token := self._take(sign):
            node = Operation(sign, (node, part()), token.column)
        return node

    def _inverse(self) -> Node:
        if token := self._take("not"):
            return Operation("not", (self._deeper(token, self._inverse),), token.column)
        left = self._sum()
        if token := self._take(*_COMPARE):
            return Operation(token.text, (self._number(left), self._number(self._sum())), token.column)
        return left

    def _sum(self) -> Node:
        return self._reduced(("+", "-"), lambda: self._reduced(("*", "/"), self._factor))

    def _reduced(self, signs: tuple[str, str], part: Callable[[], Node]) -> Node:
        node = part()
        while token := self._take(*signs):
            node = Operation(token.text, (self._number(node), self._number(part())), token.column)
        return node

    def _factor(self) -> Node:
        token = self._next
        self.at += token.kind != "end"
        if token.text == "-":
            part = self._number(self._deeper(token, self._factor))
            return Operation("-", (part,), token.column)
        if token.text == "+":
            return self._number(self._deeper(token, self._factor))
        if token.text == "(":
            node = self._deeper(token, self._or)
            if self._take(")") is None:
                raise self._error("a ')' is missing", self._next.column)
            return node
        if token.kind == "number":
            return Number(_number(token.text), token.column)
        if token.kind == "word" and token.text not in _LOGICAL:
            return self._word(token)
        if token.kind == "end":
            raise self._error("something is missing at the end", token.column)
        raise self._error(f"a number or a word is expected, not {token.text!r}", token.column)

    def _word(self, first: _Token) -> Word:
        if not self._take("."):
            return Word("", first.text, first.column)
        second = self._next
        if second.kind != "word":
            raise self._error("the name of a word is expected after '.'", second.column)
        self.at += 1
        return Word(first.text, second.text, first.column)

    def _deeper(self, token: _Token, part: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error(f"more than {MAX_DEPTH} levels deep", token.column)
        node = part()
        self.depth -= 1
        return node

    def _number(self, node: Node) -> Node:
        if isinstance(node, Operation) and node.sign not in _REDUCE:
            raise self._error(f"a number is expected here, and {node.sign!r} gives a condition", node.column)
        return node


def _number(text: str) -> int | float:
    if text[:2].lower() == "0x":
        return int(text, 16)
    return int(text) if text.isdecimal() else float(text)


def _words(node: Node) -> Iterable[Word]:
    if isinstance(node, Word):
        yield node
    elif isinstance(node, Operation):
        for part in node.parts:
            yield from _words(part)


def _near(name: str, known: Iterable[str]) -> str:
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(repr(one) for one in close)}?"
    return f"There are {', '.join(map(repr, names[:20]))}." if names else "There are none."
