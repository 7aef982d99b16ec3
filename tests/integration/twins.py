"""Two identical servers that get the same messages, one of them perhaps behind something; their replies compared."""

import struct

from harness import sequences, wire


def masked(reply):
    """The reply less what may differ between two servers: keys of the process, object ids of tables."""
    if reply.type == "K":
        return wire.Message("K", b"")
    if reply.type == "T":
        return wire.Message("T", _without_table_ids(reply.body))
    return reply


def _without_table_ids(body):
    count = struct.unpack_from(">H", body)[0]
    result, at = bytearray(body), 2
    for _ in range(count):
        at = body.index(b"\0", at) + 1
        is_a_table = body[at:at + 4] != b"\0\0\0\0"
        result[at:at + 4] = b"\0\0\0\1" if is_a_table else b"\0\0\0\0"
        at += 18
    return bytes(result)


class Conversation:
    """What one side answered to one sequence."""

    def __init__(self, parameters, data, outcome):
        self.parameters = parameters
        self.outcome = outcome
        messages, self.rest = wire.split_messages(data)
        self.messages = [masked(reply) for reply in messages]

    def __eq__(self, other):
        return (self.parameters, self.outcome, self.messages, self.rest) == (other.parameters, other.outcome, other.messages, other.rest)

    def lines(self):
        return [repr(reply) for reply in self.messages] + ([f"rest {self.rest!r}"] if self.rest else []) + [self.outcome]


class Twins:
    """`plain` and `tested`: (host, port) where role app logs in. `reset(side)` puts the database of the first (0) or the second (1) back to
    the beginning. `told`: what the plain server has answered to seeds, each of which it is asked once."""

    def __init__(self, plain, tested, database, reset, told):
        self.sides = (plain, tested)
        self.database = database
        self.reset = reset
        self.told = told

    def hear(self, side, seed, steps):
        data = b"".join(step.data for step in steps) + sequences.ending()
        self.reset(side)
        with wire.connect(*self.sides[side], "app", self.database, "app", parameters={"client_encoding": "UTF8"}) as connection:
            replies, outcome = connection.exchange(sequences.chunks(seed, data), sequences.is_complete)
            if outcome != "closed":
                connection.send(wire.TERMINATE)
            return Conversation(connection.parameters, replies, outcome)

    def talk(self, seed, steps):
        """The same sequence to both; their two conversations."""
        return [self.hear(side, seed, steps) for side in (0, 1)]

    def check(self, seed):
        """Fails with the seed, the shrunk sequence and the first reply that differs, if the replies differ."""
        steps = sequences.generate(seed)
        if seed not in self.told:
            self.told[seed] = self.hear(0, seed, steps)
        plain, tested = self.told[seed], self.hear(1, seed, steps)
        if plain == tested:
            # "closed": a server gives up on who breaks the protocol in the middle of COPY data.
            assert plain.outcome in ("complete", "closed"), report(seed, steps, plain, tested)
            return

        def differs(candidate):
            plain, tested = self.talk(seed, candidate)
            return plain != tested

        shrunk = sequences.shrink(steps, differs)
        plain, tested = self.talk(seed, shrunk)
        if plain == tested:
            raise AssertionError(f"seed {seed} differed once and not again, in\n" + "\n".join(step.label for step in steps))
        raise AssertionError(report(seed, shrunk, plain, tested))


def report(seed, steps, plain, tested):
    left, right = plain.lines(), tested.lines()
    same = 0
    while same < min(len(left), len(right)) and left[same] == right[same]:
        same += 1
    text = [f"seed {seed}; shrunk to:", *(f"  {step.label}" for step in steps)]
    if plain.parameters != tested.parameters:
        text.append(f"parameters differ: {sorted(set(plain.parameters.items()) ^ set(tested.parameters.items()))}")
    text += [f"the first {same} replies agree, then", "  the server:", *(f"    {line}" for line in left[same:same + 6]),
             "  tested:", *(f"    {line}" for line in right[same:same + 6])]
    return "\n".join(text)
