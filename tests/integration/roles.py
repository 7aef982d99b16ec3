"""What the tests of authentication share: verifiers, roles, logins that fail."""

import base64
import hashlib
import hmac
import os
import ssl

import pytest
from harness import wire
from talk import log_in


def scram_verifier(password, salt=None, iterations=4096):
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${iterations}:{base64.b64encode(salt).decode()}${base64.b64encode(stored).decode()}:{base64.b64encode(server).decode()}"


def md5_verifier(user, password):
    return "md5" + hashlib.md5((password + user).encode()).hexdigest()


def make_role(server, name, password, more="login"):
    server.run(f"drop role if exists {name}; create role {name} {more} password '{password}'")


def need_role(server, name, more=""):
    """For a server that others use too: made once, its name for a password."""
    server.run(f"do $$ begin if not exists (select from pg_roles where rolname = '{name}') then create role {name} login password '{name}'; {more} end if; end $$")


def refused(proxy, database, user, password, **options):
    """The fields of the error with which the login ends."""
    with pytest.raises(wire.WireError) as problem:
        log_in(proxy, database, user, password, **options).close()
    return problem.value.fields


def logs_in(proxy, database, user, password, **options):
    try:
        log_in(proxy, database, user, password, **options).close()
        return True
    except wire.WireError:
        return False


def context_for(ca, certificate=None, **options):
    """A client's TLS that verifies the proxy."""
    context = ssl.create_default_context(cafile=str(ca.certificate))
    if certificate:
        context.load_cert_chain(certificate.certificate, certificate.private_key)
    for name, setting in options.items():
        setattr(context, name, setting)
    return context
