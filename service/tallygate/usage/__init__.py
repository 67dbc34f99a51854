"""Usage: what enforcement counted, moved from Redis to the ledger in Postgres, exactly once, and asked for there.

`entry` is what was counted. `buckets` (port; `redis`, `memory`) is where it is counted, `ledger` (port; `postgres`,
`memory`) where it stays, and `mover` takes it from one to the other, in the one worker that is the `leader`.
`expire` gives back what was charged ahead and never settled; `partitions` says how long the ledger keeps what.
"""
