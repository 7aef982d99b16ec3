"""The tables of the many shards."""

from bench.figures import NOTHING, middle, number, ratio, table
from bench.shards.memory import BOUND, MB, PAUSE, TIMES

HEADING = "Many shards"
ENOUGH_US = 200_000  # of ticks, to tell how they split
MANY = 1000  # rows for which a cost of one makes sense
OURS, PLAIN, FDW = "tessera", "plain", "fdw"
# By the servers' log of durations and perf; to be looked at again when a way changes.
REASONS = """Why, by the servers' own log of durations and perf on 2026-11-30:

- *join on the key, summed*, and the join off the key: all rows of both tables go to the merge node, one process, though the shards could do the first by
  themselves. Of 1.45 s (on a busier machine), 0.36 went by until the node had made the temporary tables with its own rows, 0.53 in two COPYs (only then, one after the other,
  although the shards were done at 0.42), 0.52 in the join itself, over tables without statistics or indexes, and 0.04 in dropping them. Tessera's
  own CPU was a sixth of it.
- Aggregates of one table move few rows, but each takes a round trip to each shard in turn (BEGIN) and five to the merge node: some
  milliseconds, which showed with 100,000 rows (0.7 to 2.4 times the one server's time in quick runs).
- A look-up by key passes one more process on the same two cores. postgres_fdw's CPU contains the beginnings of its sessions, some 70 ms each."""


def times(result):
    names = result["contenders"]

    def milliseconds(rounds, streams):
        last = middle(rounds, "last_ms")
        decimals = 1 if last is not None and last < 100 else 0
        return f"{number(middle(rounds, 'first_ms'), 1)} / {number(last, decimals)}" if streams and rounds else number(last, decimals)

    rows = [[cell["name"], *(milliseconds(cell["rounds"].get(name), cell["streams"]) for name in names),
             *(number(ratio(cell["rounds"], OURS, rival, "last_ms"), 2) for rival in (PLAIN, FDW))] for cell in result["cells"]]
    return table(["ms (first row / last row)", *names.values(), f"Tessera ÷ {names[PLAIN]}", f"÷ {names[FDW]}"], rows)


def _split(rounds):
    """CPU ms of one statement, and how it splits."""
    total = middle(rounds, "cpu_ms")
    if total is None:
        return NOTHING
    user, system = (sum(one[key] for one in rounds) for key in ("user_us", "system_us"))
    if user + system < ENOUGH_US:
        return number(total, 2)
    return f"{total:,.2f} ({total * user / (user + system):,.1f} + {total * system / (user + system):,.1f})"


def costs(result):
    rows = []
    for cell in result["cells"]:
        ours = cell["rounds"].get(OURS)
        count = cell["rows"] if ours and (cell["rows"] or 0) >= MANY else None
        rows.append([cell["name"], cell["way"] or NOTHING, _split(ours), _split(cell["rounds"].get(FDW)),
                     number(count and 1000 * middle(ours, "cpu_ms") / count, 2), number(count and 1000 * count / middle(ours, "last_ms")),
                     number(ours and max(one["peak"] for one in ours) / MB, 1)])
    return table(["one statement", "Tessera's way", "its CPU, ms (user + system)", "the coordinator's", "Tessera's, µs a row of the answer",
                  "rows/s through it", "its peak RSS, MB"], rows)


def lookups(result):
    names = {name: title for name, title in result["contenders"].items() if any(name in cell["rounds"] for cell in result["lookups"])}

    def rate(rounds):
        cpu = middle(rounds, "cpu_us")
        return number(middle(rounds, "tps")) + ("" if cpu is None else f" ({cpu:,.1f})")

    rows = [[cell["name"], *(rate(cell["rounds"].get(name)) for name in names),
             *(number(ratio(cell["rounds"], OURS, rival, key), 2) for rival, key in ((PLAIN, "tps"), (FDW, "tps"), (FDW, "cpu_us")))]
            for cell in result["lookups"]]
    return table(["look-ups by key per second (its CPU, µs)", *names.values(), f"rate ÷ {result['contenders'][PLAIN]}",
                  f"rate ÷ {result['contenders'][FDW]}", f"CPU ÷ {result['contenders'][FDW]}"], rows)


def memory(result):
    measured = result["memory"]
    rows = [[step["name"], number(step["bytes"] / MB), number(step["start"] / MB, 1), number(step["peak"] / MB, 1),
             number((step["start"] + step["bound"]) / MB, 1)] for step in measured["steps"]]
    return table(["memory of Tessera (RSS), MB", "the answer", "before", "peak", "bound"], rows)


def tables(result):
    """(what it shows, table) of everything that was measured."""
    if result["cells"]:
        yield "times", times(result)
        yield "costs", costs(result)
    if result["lookups"]:
        yield "lookups", lookups(result)
    if result["memory"]:
        yield "memory", memory(result)


def slower(result, rival):
    """The cells in which it was better, the worst first."""
    against = {cell["name"]: ratio(cell["rounds"], OURS, rival, "last_ms") for cell in result["cells"]}
    found = sorted(((name, times) for name, times in against.items() if times and times > 1), key=lambda one: -one[1])
    return ", ".join(f"{name} ({times:.1f})" for name, times in found) or "nowhere"


def section(result):
    where, settings = result["machine"], result["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    parts = dict(tables(result))
    quick = "\n**This was a quick run: it shows that everything works, not how fast it is.**\n" if settings["quick"] else ""
    problems = "\n" * bool(result["problems"]) + "".join(f"\n- Problem: {problem}" for problem in result["problems"])
    shown = "\n\n".join(parts.get(name, "") for name in ("times", "costs", "lookups", "memory")).strip()
    return f"""## {HEADING}

Measured by `./dev bench --only shards` on {where['when']}, commit {where['commit']}; {where['cpu']}, {where['cores']} cores, {versions}.
{quick}
{settings['rows']:,} rows like pgbench's accounts; a tenth as many orders (split by their account) and payments (by a number of their own). *One server* has them
in one database. *Tessera* and *postgres_fdw* have four shards: databases of that same server, on the same cores. postgres_fdw is a server of its own with
hash partitions over those databases (its own tables there, since PostgreSQL places rows by another hash), tuned: `async_capable`, `fetch_size` 10,000,
`batch_size` 1,000, aggregates and joins by partition. All take the statement as a simple query on a connection that stays. Before anything is timed every
answer has been compared with the one server's, row by row. Medians of {settings['rounds']} round(s); in each every contender has its turn, a turn is up to seven
statements. The machine's load was {settings['load'][0]:.1f} before and {settings['load'][-1]:.1f} at the end; where other work ran on these cores, five processes
got more of them than one, which favours the shards. Ratios below 1 are better for times and CPU, above 1 for rates.

{shown}

Memory: Tessera's RSS may grow by {BOUND / MB:.1f} MB while an answer of more than {TIMES} times that goes through it, to a client that does not read for the first
{PAUSE:.0f} s, and in every statement above; else this run fails.{problems}

**Where Tessera is slower** (times), than the one server: {slower(result, PLAIN)}; than postgres_fdw: {slower(result, FDW)}.

{REASONS}"""
