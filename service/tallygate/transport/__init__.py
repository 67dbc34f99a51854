"""Transports: how the bytes of a unary gRPC call reach a handler, and its answer the caller.

`transport` is the port, `health` the state of `grpc.health.v1` that every adapter serves, `grpcio` an
adapter. One contract suite holds them equal. Does not own what a handler does, nor Envoy's messages.
"""
