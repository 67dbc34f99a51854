"""Envoy's questions and answers: the only package, beside `transport`, that knows Envoy's messages.

`check` is the servicer; `attributes` reads what Envoy says of a request, `responses` writes the decision
back; `ratelimit_fields` and `structured_fields` are the header grammar they need. Does not own decisions.
"""
