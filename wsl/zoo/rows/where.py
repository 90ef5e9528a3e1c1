"""`where`: a condition on the table of a zoo, as text, to a truth value for each row.

    or       := and ("|" and)*
    and      := not ("&" not)*
    not      := "~" not | "(" or ")" | chain
    chain    := value (compare value)*
    compare  := == | != | < | <= | > | >=
    value    := column | number | 'text' | "text" | true | false

Comparisons bind tightest, then ~, &, |: ``test_accuracy > 0.8 & epoch == 20`` means what it says.
``0.2 < lr <= 1`` is a chain; a column of truth values may stand alone. Names are the columns of the
table, member, epoch and split included. NaN compares as IEEE has it: unequal to everything. Text is
parsed here and never executed; there is no arithmetic, no call, no attribute.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from wsl.base import did_you_mean
from wsl.zoo.file import ZooError

_TOKEN = re.compile(
    r"\s*(?:(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))|(?P<name>[A-Za-z_][\w.\-]*)"
    r"|(?P<text>'[^']*'|\"[^\"]*\")|(?P<compare>==|!=|<=|>=|<|>)|(?P<sign>[&|~()]))",
    re.ASCII,
)
_COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS = {"and": "&", "or": "|", "not": "~"}
_MAX_LENGTH, _MAX_DEPTH = 10_000, 50


class _Token(NamedTuple):
    kind: str
    text: str
    place: int


def where(condition: str, table: np.ndarray) -> np.ndarray:
    """Truth value, shape (N,), of ``condition`` for each of the N records of ``table``.

    Raises `ZooError` that shows the place of a mistake, and the nearest column for an unknown name.
    """
    parser = _Parser(condition, table)
    result = parser.disjunction(0)
    if parser.kind != "end":
        raise parser.error("expected & or | here")
    return result


class _Parser:
    """Recursive descent, a method for each line of the grammar."""

    def __init__(self, text: str, table: np.ndarray) -> None:
        if not isinstance(text, str) or len(text) > _MAX_LENGTH:
            raise ZooError(
                f"where: give a text of at most {_MAX_LENGTH} characters, such as 'epoch == 20'"
            )
        self.text, self.table = text, table
        self.tokens, self.at = list(self._tokens()), 0

    @property
    def kind(self) -> str:
        token = self.tokens[self.at]
        return token.text if token.kind == "sign" else token.kind

    def disjunction(self, depth: int) -> np.ndarray:
        result = self._conjunction(depth)
        while self._take("|"):
            result = result | self._conjunction(depth)
        return result

    def _conjunction(self, depth: int) -> np.ndarray:
        result = self._negation(depth)
        while self._take("&"):
            result = result & self._negation(depth)
        return result

    def _negation(self, depth: int) -> np.ndarray:
        if depth > _MAX_DEPTH:
            raise self.error(f"more than {_MAX_DEPTH} parentheses or ~ inside each other")
        if self._take("~"):
            return ~self._negation(depth + 1)
        if self._take("("):
            result = self.disjunction(depth + 1)
            if not self._take(")"):
                raise self.error("expected ) here")
            return result
        return self._chain()

    def _chain(self) -> np.ndarray:
        first = self.at
        left, results = self._value(), []
        while self.kind == "compare":
            sign = self._next()
            right = self._value()
            results.append(self._compare(sign, left, right))
            left = right
        if not results:
            if isinstance(left, np.ndarray) and left.dtype.kind == "b":
                return left
            raise self.error("must be compared with something: == != < <= > >=", self.tokens[first])
        return np.logical_and.reduce(results)

    def _value(self) -> Any:
        if self.kind not in ("number", "name", "text"):
            raise self.error("expected a column, a number or a text in quotes here")
        token = self._next()
        if token.kind == "text":
            return np.array(token.text[1:-1])
        if token.kind == "number":
            # beyond 18 digits an integer may not fit 64 bits
            floating = re.search("[.eE]", token.text) or len(token.text) > 18
            return np.array(float(token.text) if floating else int(token.text))
        return self._named(token)

    def _named(self, token: _Token) -> Any:
        names = self.table.dtype.names or ()
        if token.text in names:
            return self.table[token.text]
        if token.text.lower() in ("true", "false"):
            return np.array(token.text.lower() == "true")
        hint = did_you_mean(token.text, names) or "; text stands in quotes"
        raise self.error(
            f"column {token.text!r} is unknown{hint}; the columns are {', '.join(names)}", token
        )

    def _compare(self, sign: _Token, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        kinds = [_kind(left), _kind(right)]
        if kinds[0] != kinds[1]:
            raise self.error(f"{kinds[0]} and {kinds[1]} cannot be compared", sign)
        if kinds[0] == "truth value" and sign.text not in ("==", "!="):
            raise self.error("truth values can be compared with == and != only", sign)
        return np.broadcast_to(_COMPARE[sign.text](left, right), self.table.shape)

    def _take(self, sign: str) -> bool:
        if self.kind != sign:
            return False
        self.at += 1
        return True

    def _next(self) -> _Token:
        self.at += 1
        return self.tokens[self.at - 1]

    def _tokens(self) -> Iterator[_Token]:
        at, end = 0, len(self.text.rstrip())
        while at < end:
            match = _TOKEN.match(self.text, at)
            start = at + len(self.text[at:]) - len(self.text[at:].lstrip())
            if match is None:
                hint = "; equality is written ==" if self.text[start] == "=" else ""
                what = f"{self.text[start]!r} is not understood{hint}"
                raise self.error(what, _Token("", "", start))
            token = _Token(match.lastgroup or "", match[match.lastgroup or 0], start)
            if token.kind == "name" and token.text in _WORDS:
                raise self.error(f"write {_WORDS[token.text]!r} for {token.text!r}", token)
            yield token
            at = match.end()
        yield _Token("end", "", len(self.text))

    def error(self, what: str, token: _Token | None = None) -> ZooError:
        place = (token or self.tokens[self.at]).place
        shown = self.text if len(self.text) <= 200 else self.text[max(0, place - 80) : place + 80]
        return ZooError(f"where {shown!r}, at character {place + 1}: {what}")


def _kind(values: np.ndarray) -> str:
    return {"b": "truth value", "U": "text"}.get(values.dtype.kind, "number")
