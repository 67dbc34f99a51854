"""Development servers as child processes: Postgres, Valkey, Envoy and a sample upstream API.

Each is an async context manager, ready when entered and gone when left, and has a twin with the same
interface for a server that is already running. Owns child processes and their data directories. Does not
own schema, plans or settings, and is never part of a production deployment.
"""
