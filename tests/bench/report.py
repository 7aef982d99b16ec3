"""Tables out of .bench/result.json: report.py [result.json] writes docs/benchmarks.md."""

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.figures import NOTHING, middle, number, ratio, table  # noqa: E402
from bench.shards import report as shards  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "benchmarks.md"
MICRO = "Microbenchmarks"
RIVALS = [("pgbouncer", "PgBouncer"), ("haproxy", "HAProxy")]
OURS = [("tessera", "one shard"), ("tessera4", "4 shards")]


# The sections

def cpu(result):
    shown = {name: title for name, title in result["contenders"].items() if name != "direct"}

    def cell(rounds):
        total = middle(rounds, "cpu_us")
        return NOTHING if total is None else f"{total:,.1f} ({middle(rounds, 'cpu_user_us'):,.1f})"

    rows = [[one["name"], *(cell(one["rounds"].get(name)) for name in shown)] for one in result["cells"]]
    return table(["CPU µs of the proxy per statement (user)", *shown.values()], rows)


def throughput(result):
    rows = [[one["name"], *(number(middle(one["rounds"].get(name), "tps")) for name in result["contenders"])] for one in result["cells"]]
    return table(["statements per second", *result["contenders"].values()], rows)


def latency(result):
    def cell(rounds):
        return " / ".join(number(middle(rounds, f"p{percent}_us")) for percent in (50, 95, 99)) if rounds else NOTHING

    rows = [[one["name"], *(cell(one["rounds"].get(name)) for name in result["contenders"])] for one in result["cells"]]
    return table(["latency, µs: p50 / p95 / p99", *result["contenders"].values()], rows)


def ratios(result, rival, title):
    ours = [(name, short) for name, short in OURS if name in result["contenders"]]
    head = [f"Tessera ÷ {title}", *(f"{short}: {what}" for _, short in ours for what in ("CPU", "rate", "p99"))]
    rows = []
    for one in result["cells"]:
        figures = [ratio(one["rounds"], name, rival, key) for name, _ in ours for key in ("cpu_us", "tps", "p99_us")]
        rows.append([one["name"], *(number(figure, 2) for figure in figures)])
    return table(head, rows)


def memory(result):
    rows = []
    for name, title in result["contenders"].items():
        plain, tls = (result["idle"].get(kind, {}).get(name) for kind in ("plain", "TLS"))
        if plain or tls:
            peak = max((one["rss"] for cell in result["cells"] for one in cell["rounds"].get(name, [])), default=None)
            rows.append([title, number(middle(plain, "connections")), _kilobytes(plain, "bytes_each", 1), _kilobytes(tls, "bytes_each", 1),
                         _kilobytes(plain, "rss_before"), number(peak and peak / 1024), number(middle(plain, "login_cpu_us")),
                         number(middle(tls, "login_cpu_us"))])
    return table(["memory (RSS), kB", "idle connections", "each, plain", "each, TLS", "fresh process", "after all cells", "login, CPU µs",
                  "login with TLS, CPU µs"], rows)


def _kilobytes(rounds, key, decimals=0):
    value = middle(rounds, key)
    return number(value and value / 1024, decimals)


def bulk(result):
    rows = []
    for name, title in result["contenders"].items():
        rounds = result["bulk"].get(name)
        against = [number(ratio(result["bulk"], name, rival, "cpu_ms"), 2) for rival, _ in RIVALS]
        if rounds:
            own = middle(rounds, "cpu_ms")
            split = NOTHING if own is None else f"{own:,.0f} ({middle(rounds, 'cpu_user_ms'):,.0f})"
            rows.append([title, number(middle(rounds, "first_ms"), 1), number(middle(rounds, "last_ms")), split, *against,
                         _kilobytes(rounds, "rss")])
    head = ["a million rows", "first byte, ms", "last, ms", "CPU of the proxy, ms (user)", "÷ PgBouncer", "÷ HAProxy", "RSS, kB"]
    return table(head, rows)


def syscalls(result):
    shown = {name: title for name, title in result["contenders"].items() if name != "direct"}

    def cell(rounds):
        if not rounds:
            return NOTHING
        most = ", ".join(f"{name} {count:.2f}" for name, count in rounds[0]["by_name"].items() if count >= 0.005)
        return f"{rounds[0]['per_statement']:.2f} ({most})"

    rows = [[one["name"], *(cell(one["rounds"].get(name)) for name in shown)] for one in result["syscalls"]]
    return table(["system calls per statement", *shown.values()], rows)


def steps(micro):
    rows = [[f"{one['group']}: {one['operation']}", number(middle(one["rounds"], "ns"), 1), number(middle(one["rounds"], "us_per_mb"))]
            for one in micro["benchmarks"] if not one["group"].startswith("routing")]
    return table(["CPU time of one", "ns", "µs per MB"], rows)


def routing(micro):
    """The cost of a routed statement under each rule, and how many times that of the smallest rule of its kind it is."""
    figures = {}
    for one in micro["benchmarks"]:
        if one["group"].startswith("routing, "):
            figures.setdefault(one["operation"], {})[one["group"].removeprefix("routing, ")] = middle(one["rounds"], "ns")
    columns = list(dict.fromkeys(name for values in figures.values() for name in values))
    smallest = {}
    rows = []
    for title, values in figures.items():
        base = smallest.setdefault(title.partition(",")[0], values)
        rows.append([title, *(text for name in columns for text in (number(values[name], 1), number(values[name] / base[name], 2)))])
    return table(["plan cache and bind, ns", *(head for name in columns for head in (name, "÷ its first"))], rows)


def micro_section(micro):
    where, settings = micro["machine"], micro["settings"]
    return f"""## {MICRO}

Measured by `./dev bench --only micro` on {where['when']}, commit {where['commit']}; {where['cpu']}, {where['cores']} cores.
Medians of {settings['rounds']} round(s) of {settings['seconds']} s for each operation, one thread, no sockets, no servers; the machine's load
was {settings['load']:.1f} before.

{steps(micro)}

A statement of the extended protocol whose plan is cached (the cache holds 10,000 plans), the key a bigint in binary format, each
statement begun when the one before it has its shard. *One key*: the same again and again, so all that it touches is in the processor's
caches. *Random keys*: any key of the rule, so that a large rule is read from memory. *÷ its first*: against the smallest rule of the
same kind. Ring and range search a sorted list, so their cost grows with its logarithm; hash and directory make one look-up.

{routing(micro)}
"""


def skipped(result):
    """Why some places are empty; each reason once."""
    reasons = {}
    for cell in result["cells"]:
        for why in cell["skipped"].values():
            reasons.setdefault(why, []).append(cell["name"])
    return [f"{why}: left out of {'; '.join(names)}." for why, names in reasons.items()]


def sections(result):
    """(heading, table) of everything that was measured."""
    if result["cells"]:
        yield "CPU of the proxy", cpu(result)
        for rival, title in RIVALS:
            if rival in result["contenders"] and any(name in result["contenders"] for name, _ in OURS):
                yield f"Ratios to {title}", ratios(result, rival, title)
        yield "Throughput", throughput(result)
        yield "Latency", latency(result)
    if result["idle"]:
        yield "Memory", memory(result)
    if result["bulk"]:
        yield "Bulk", bulk(result)
    if result["syscalls"]:
        yield "System calls", syscalls(result)


def tables(result):
    parts = []
    if "micro" in result:
        parts += [f"\n{steps(result['micro'])}", f"\n{routing(result['micro'])}"]
    if "shards" in result:
        parts += [f"\n{body}" for _, body in shards.tables(result["shards"])]
    if "machine" not in result:  # nothing but these
        parts += ["", *(f"PROBLEM {problem}" for problem in result["problems"])]
        return "\n".join(parts)
    parts += [f"\n{body}" for _, body in sections(result)]
    notes = [*skipped(result), *(f"PROBLEM {problem}" for problem in result["problems"])]
    return "\n".join([*parts, "", *notes])


def introduction(result):
    machine, settings = result["machine"], result["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    where = "the proxy on one core, pgbench and PostgreSQL on the rest" if settings["pinned"] else \
        "pgbench, the proxy and PostgreSQL share them all"
    quick = "\n**This was a quick run: it shows that everything works, not how fast it is.**\n" if settings["quick"] else ""
    return f"""# Benchmarks

Written by `./dev bench --document` on {machine['when']}, commit {machine['commit']}.
{quick}
- {machine['cpu']}, {machine['cores']} cores ({where}), {machine['memory_mb']:,} MB, Linux {machine['kernel']}
- {versions}
- {settings['rounds']} round(s) of {settings['seconds']} s a cell; in each round every contender has its turn

One PostgreSQL, fsync off, a million of pgbench's accounts (scale {settings['scale']}). The statement is that of `pgbench -S`, one row by its
key, the key a literal (simple) or a parameter (extended, prepared). Each proxy works with one thread, plain TCP to the server and, the
poolers, transaction pooling with {settings['pool_size']} connections a pool. *Tessera* has one shard. *Tessera, 4 shards* parses and routes
every statement by a hash of its key to one of four databases on the same server, each with its own pool: up to
{4 * settings['pool_size']} server processes instead of {settings['pool_size']} on the same cores. Logins are SCRAM unless a cell says
trust: PgBouncer holds the verifier, Tessera the password, HAProxy passes them on to the server.

How to read it: machine and load drift, so only ratios within this run count, and the proxy's own CPU time per statement is the steadiest
figure. Ratios below 1 are better for CPU and p99, above 1 for the rate. With -C (reconnecting) a statement is a whole connection:
connect, log in, one SELECT, disconnect; its latencies are pgbench's, without the connecting.
"""


def document(result):
    parts = [introduction(result)]
    parts += [f"## {heading}\n\n{body}\n" for heading, body in sections(result)]
    notes = [*skipped(result), *(f"Problem: {problem}" for problem in result["problems"])]
    if notes:
        parts.append("## Not measured\n\n" + "\n".join(f"- {note}" for note in notes) + "\n")
    parts.append("""## Again

`./dev bench` installs what it needs, builds, and takes about half an hour; `--quick` five, `--only select,bulk` some groups,
`--contenders pgbouncer,tessera4` some contenders, `--pin` gives the proxy a core of its own, `--document` writes this file.
Every round stands in `.bench/result.json`; `tests/bench/report.py` writes this file from it again.

- RSS counts no socket buffers of the kernel. HAProxy's idle connections are fewer: each holds a connection of the server.
- strace slows what it watches; the system calls are from runs of their own.
- The CPU of a cell contains the logins of its clients.
- `./dev bench --only micro --document` takes two minutes on a quiet machine and replaces the section of the microbenchmarks alone;
  `--only shards --rounds 5 --document` takes ten to fifteen and does so with the many shards: `--cells count,lookups` some cells,
  `--rows 200000` fewer rows, `--quick` about a minute in all.
""")
    return "\n".join(parts)


def section_of(text, heading):
    """The section as it stands in a document; empty if it is not there."""
    found = re.search(rf"^## {heading}\n.*?(?=^## |\Z)", text, re.M | re.S)
    return found[0] if found else ""


def with_section(text, heading, section):
    """The document with this section in place of the one that it has."""
    before, again, after = text.replace(section_of(text, heading), "").partition("## Again\n")
    return f"{before}{section.strip()}\n\n{again}{after}" if section else text


def write_document(result):
    """What the run did not measure is not in it, but for the parts that say themselves when they were run."""
    before = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    text = document(result) if "machine" in result else before
    for heading, part, section in ((shards.HEADING, "shards", shards.section), (MICRO, "micro", micro_section)):
        text = with_section(text, heading, section(result[part]) if part in result else section_of(before, heading))
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".bench" / "result.json"
    write_document(json.loads(source.read_text()))
