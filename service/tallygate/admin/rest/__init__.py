"""The REST API: the use cases of `admin`, over HTTP.

A handler parses, calls one use case and represents what it returns; the frame around it is the same for all:

- `envelope`   request ids, deadlines, size limits, and the last catch: no error leaves but as a problem
- `access`     who calls: admin keys, roles, and Tallygate's own limiter
- `call`       one request as one transaction: idempotency keys, entity tags
- `problems`   every error as `application/problem+json` (RFC 9457)
- `openapi`    what FastAPI cannot know about the above, put into the document

One module per noun holds its paths and its bodies. Nothing of HTTP is known to the use cases.
"""
