"""Licenses: what a token may do, where that is read from, and how it is kept fresh.

`license` and `routes` are pure values, `codec` their JSON; `store` is the port with adapters `postgres` and
`memory`; `cache` keeps what was read (its parts: `shelf`, `absent`, `floors`, `reads`); `listener` tells it
what changed. Does not own plans or who may change a license.
"""
