"""What a client asks for in its start-up packet is set on connections that others use as well: it means what it means to a
server, or the login is refused, and nobody after it has anything of it."""

import pytest
from harness import wire
from roles import refused
from talk import ask, config_of, log_in


@pytest.fixture(scope="module")
def database(servers, new_database):
    return new_database(servers[:1], "select 1")


@pytest.fixture
def proxy(tessera, servers, database):
    """A pool of one connection, which everybody gets."""
    return tessera(config_of(servers[:1], database, pool={"size": 1}))


def in_both_places(name, setting):
    return [{name: setting}, {"options": f"-c {name}={setting}"}, {"options": f"--{name.upper().replace('_', '-')}={setting}"}]


@pytest.mark.parametrize("name", ["local_preload_libraries", "session_preload_libraries"])
def test_libraries_are_not_preloaded(proxy, database, name):
    """The server would take the value without a word, and load nothing."""
    with log_in(proxy, database) as before:
        for parameters in in_both_places(name, "auto_explain"):
            error = refused(proxy, database, "app", "app", parameters=parameters)
            assert error["C"] == "0A000" and name in error["M"] and "LOAD" in error["H"]
            assert ask(before, f"show {name}") in ([[""]], "42501")


FOR_SUPERUSERS = {"session_replication_role": "replica", "dynamic_library_path": "/tmp", "zero_damaged_pages": "on", "log_statement": "all",
                  "shared_preload_libraries": "auto_explain", "jit_provider": "x", "log_connections": "on", "ignore_system_indexes": "on",
                  "session_authorization": "postgres", "role": "postgres", "is_superuser": "on"}


@pytest.mark.parametrize("name", FOR_SUPERUSERS)
def test_what_a_server_refuses_is_refused(proxy, servers, database, name):
    with log_in(proxy, database) as before:
        normal = ask(before, f"show {name}")
        for parameters in in_both_places(name, FOR_SUPERUSERS[name]):
            if name != "ignore_system_indexes":  # by the server only when its connection is there already
                with pytest.raises(wire.WireError):
                    wire.connect("127.0.0.1", servers[0].port, "app", database, "app", parameters=parameters)
            assert refused(proxy, database, "app", "app", parameters=parameters)["C"] in ("42501", "55P02", "22023")
            assert ask(before, f"show {name}") == normal
            with log_in(proxy, database) as after:
                assert ask(after, f"show {name}") == normal


# What PostgreSQL 15 takes on a command line, whether or not it takes it from a client. (Left out: -d and -t, by which superusers debug.)
SWITCHES = ["-b", "-E", "-j", "-n", "-P", "-T", "-PE", "-e", "-s", "-O", "-F", "-i", "-l", "-W 0", "-W0", "-C port", "-D /tmp", "-r /tmp/x", "-v 3", "-S 64", "-f s", "-fmerge",
            "-f x", "-B 100", "-h x", "-k /tmp", "-N 5", "-p 1", "-x", "-W"]


@pytest.mark.parametrize("user", ["app", "postgres"])
def test_switches_are_taken_as_by_a_server(tessera, servers, database, user):
    def taken(host, port, switch):
        try:
            wire.connect(host, port, user, database, user, parameters={"options": switch}).close()
        except wire.WireError:
            return False
        return True

    proxy = tessera(config_of(servers[:1], database, users=[{"name": user, "password": user}]))
    here = {switch: taken(proxy.host, proxy.port, switch) for switch in SWITCHES}
    assert here == {switch: taken("127.0.0.1", servers[0].port, switch) for switch in SWITCHES}
