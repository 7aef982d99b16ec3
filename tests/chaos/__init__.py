"""Faults under load: ./dev chaos. See docs/testing.md for what is shown, and tests/README.md for where things are.

ledger   every write and what its client was told; compared with the shards at the end
load     clients that can recognise their own answers
arena    four shards, a man in the middle before one of them, Tessera, the clients
faults   what is done to them, and who may suffer from it
storms   a thousand reloads; the race of cancel requests
run      the command line: rounds, checks, the table
"""
