"""Limits: what may be consumed, and the one place where it is.

`limit`, `judgement` and the counters it uses (`algorithms`, `credits`, `slots`) are pure and are the
reference; `limiter` is the port; `memory` and `redis` are its adapters, held equal by one contract suite.
`keys` names everything stored, `script` speaks with `lua/`, `present` guesses Redis's time. Owns counters.
Does not own plans, tokens or refusals.
"""
