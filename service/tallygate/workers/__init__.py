"""Several worker processes as one service: started, watched, restarted, and seen at one endpoint of operators.

`supervisor` keeps each `worker` alive; a `process` is one life of a worker, told by its `seat` which worker it is and
where to listen, and telling over its `line` whether it is ready and what it has counted. `totals` adds that up, and
loses nothing of those that are gone; `pages` shows it. `ports` keeps what a worker listens on while none does;
`backoff` and `endpoints` are pure. Does not own what a worker does: it is `tallygate serve` itself, in an interpreter
of its own.
"""
