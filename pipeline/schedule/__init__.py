"""The scheduled, incremental run: what is new is made, and published whole or not at all.

    sources.py       what the source shards hold now, by checksum
    ledger.py        what was made of which source, from immutable files, one pair a partition
    differences.py   what is to be made, and what may be published: pure functions
    publication.py   lists of live shards, and the pointer to the newest
    lease.py         one run at a time
    retention.py     what nobody needs any more
    nightly.py       one run: all of the above in order

docs/schedule.md tells what a crash at each step leaves.
"""

LEASE_S = 600.0  # after the last sign of life of a run
