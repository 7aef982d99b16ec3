"""Memory per idle connection: RSS of the proxy before and after many clients have logged in and run one statement."""

import ssl

from bench import BenchError, process
from harness import wire


def _context():
    """One for all connections: it holds the client's session tickets and is not small."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def measure(contender, connections, tls):
    """The proxy should be fresh: memory that it has once used for something else would hide what connections take."""
    context = _context() if tls else None
    with contender.connect(tls=context) as first:
        first.ask(wire.query("select 1"))
    before = process.resident_bytes(contender.pid)
    started = process.cpu(contender.pid)
    opened = []
    try:
        for _ in range(connections):
            opened.append(contender.connect(tls=context))
            opened[-1].ask(wire.query("select 1"))
        cost = process.spent(process.cpu(contender.pid) - started, connections)
        after = process.resident_bytes(contender.pid)
        opened[0].ask(wire.query("select 1"))
    except (OSError, wire.WireError) as error:
        raise BenchError(f"connection {len(opened)} of {connections}: {error}") from None
    finally:
        for connection in opened:
            connection.close()
    return {"connections": connections, "rss_before": before, "rss_after": after, "bytes_each": (after - before) / connections,
            "login_cpu_us": cost["cpu_us"]}
