"""Postgres and Redis as services: pools, deadlines, error translation, schema and migrations.

Owns connections and the schema. Does not own queries of a feature; those stand beside the feature.
"""
