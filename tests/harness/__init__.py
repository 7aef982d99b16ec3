"""What the integration tests, the demo and the benchmarks stand on.

places        where data may live, as which user servers run, free ports
certificates  a throw-away certificate authority
postgres      real PostgreSQL 15 servers, primaries and streaming replicas
tessera       the proxy as a child process
wire          PostgreSQL's protocol by hand: any message, in any order, byte for byte
sequences     seeded random sequences of messages, printable and shrinkable
meddler       a man in the middle between Tessera and a shard, who does harm on the Nth message or on a pattern
cluster       a command line over `postgres` for shell scripts

Everything listens on 127.0.0.1 only.
"""
