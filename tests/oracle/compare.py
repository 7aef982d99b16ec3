"""One statement on one side, in one form of the protocol; and what must be the same on both sides."""

import re
import struct
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from harness import wire
from oracle.kinds import KINDS

FORMS = ("simple", "text", "binary")
OWN = 16384  # the first object id that is not the server's own


class Answer(NamedTuple):
    columns: tuple  # (name, type, modifier, format)
    rows: list  # bytes of DataRows
    tag: bytes
    code: str  # of the error, or ""
    status: str  # of ReadyForQuery
    message: str  # of the error

    def what(self):
        return f"{self.code} {self.message} {self.status}" if self.code else f"{self.tag.decode()} {self.columns} {[fields(row) for row in self.rows[:6]]}{'…' if len(self.rows) > 6 else ''} {self.status}"


class Form(NamedTuple):
    """How a statement is sent, on both sides alike."""

    protocol: str
    parameters: bool = False  # constants as parameters
    declared: bool = False  # with their types
    named: bool = False
    again: tuple = ()  # values with which it is executed once more

    def units(self, statement):
        """What is sent, each up to ReadyForQuery."""
        if self.protocol == "simple":
            return [wire.query(statement.literal())]
        text, constants = statement.parameterized() if self.parameters else (statement.literal(), [])
        types = [KINDS[kind].oid if self.declared else 0 for kind, _ in constants]
        values = [None if value is None else value.encode() for _, value in constants]
        name = "kept" if self.named else ""
        formats = (1,) if self.protocol == "binary" else ()
        last = (wire.close_statement(name) if self.named else b"") + wire.SYNC
        first = wire.parse(text, name, types) + wire.bind(values, "", name, result_formats=formats) + wire.describe_portal() + wire.execute()
        if not self.again:
            return [first + last]
        return [first + wire.SYNC, wire.bind([value.encode() for value in self.again], "", name, result_formats=formats) + wire.execute() + last]


def form(rng, statement):
    """Values that may have several texts are compared as texts."""
    protocol = rng.choice(["simple", "text", "binary" if not statement.loose else "text"])
    if protocol == "simple":
        return Form(protocol)
    parameters, named = rng.random() < 0.6, rng.random() < 0.25
    again = ()
    if parameters and named and statement.what == "select":
        again = tuple(rng.choice(KINDS[kind].values) for kind, _ in statement.parameterized()[1])
    return Form(protocol, parameters, rng.random() < 0.7, named, again)


def answer(connection, *units):
    columns, rows, tag, code, text = (), [], b"", "", ""
    for unit in units:
        for reply in connection.ask(unit):
            if reply.type == "T":
                columns = _columns(reply.body)
            elif reply.type == "D":
                rows.append(reply.body)
            elif reply.type == "C":
                tag += reply.body
            elif reply.type == "E":
                told = wire.error_fields(reply.body)
                code, text = told["C"], "; ".join(told[key] for key in "MDH" if key in told)
                rows, tag = [], b""  # some may have come before it
        if code:  # what was wrong in Parse is not prepared on a server; Tessera may know later
            break
    return Answer(() if code else columns, rows, tag, code, connection.status, text)


def _columns(body):
    found, at = [], 2
    for _ in range(struct.unpack_from(">H", body)[0]):
        end = body.index(b"\0", at)
        table, _, kind, size, modifier, form_ = struct.unpack_from(">IhIhih", body, end + 1)
        found.append((body[at:end].decode(), table != 0, min(kind, OWN), size, modifier, form_))
        at = end + 19
    return tuple(found)


def same(statement, expected, found):
    """Whether both say the same: rows as a bag, and in sequence as far as ORDER BY says."""
    if expected.code or found.code:
        return (expected.code, expected.status) == (found.code, found.status)
    if (expected.columns, expected.tag, expected.status) != (found.columns, found.tag, found.status):
        return False
    if statement.order and len(statement.order) == len(expected.columns) and not statement.loose:
        return expected.rows == found.rows
    left, right = expected.rows, found.rows
    if sorted(left) == sorted(right):
        return [_at(row, statement.order) for row in left] == [_at(row, statement.order) for row in right]
    # Other texts of equal values, by which rows were put in order perhaps.
    return statement.loose and sorted(map(_plain, left)) == sorted(map(_plain, right))


def fields(row):
    found, at = [], 2
    for _ in range(struct.unpack_from(">H", row)[0]):
        length = struct.unpack_from(">i", row, at)[0]
        found.append(None if length < 0 else row[at + 4:at + 4 + length])
        at += 4 + max(0, length)
    return found


def _at(row, positions):
    values = fields(row) if positions else ()
    return [values[position] for position in positions]


DAYS = re.compile(r"(-?\d+) (day|mon|year)s? ?")


def _plain(row):
    """Its fields; numbers and intervals as what they are equal to."""
    return repr([None if field is None else _value(field.decode()) for field in fields(row)])


def _value(text):
    try:
        number = Decimal(text)
        return "NaN" if number.is_nan() else str(number.normalize() + 0)
    except InvalidOperation:
        pass
    if not re.fullmatch(r"((-?\d+) (day|mon|year)s? ?)*(-?\d\d:\d\d:\d\d)?", text) or not text:
        return text
    seconds = sum(int(count) * {"day": 86400, "mon": 30 * 86400, "year": 360 * 86400}[unit] for count, unit in DAYS.findall(text))
    if ":" in text:
        hours, minutes, rest = text.split(" ")[-1].lstrip("-").split(":")
        seconds += (int(hours) * 3600 + int(minutes) * 60 + int(rest)) * (-1 if text.split(" ")[-1].startswith("-") else 1)
    return f"{seconds} s"
