"""OpenTelemetry traces of decisions: nothing of this package is imported unless traces are switched on.

`parent` reads whose part a decision is; `checks` makes the spans; `otlp` hands them on. Comes with
`pip install 'tallygate[traces]'`.
"""
