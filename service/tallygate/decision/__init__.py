"""The decision: one request in, one value out.

`decision` holds the values, `pipeline` the numbered steps, `rules` the laws without I/O, `denials` the
one table from reasons to codes. Knows no protobuf, no driver and no metric.
"""
