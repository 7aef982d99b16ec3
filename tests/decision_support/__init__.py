"""A decision-support workload of our own: a parcel carrier's eight tables, their rows and 22 questions about them. `./dev decision-support` writes docs/decision-support.md."""
