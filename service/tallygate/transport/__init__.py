"""Transports: how the bytes of a unary gRPC call reach a handler, and its answer the caller.

`transport` is the port, `adapters` its adapters by name: `h2corn`, with `asgi`, `messages` and `deadlines` for what is
gRPC's in it, and `grpcio`. `listening`, `tls`, `status` and `health` (the state of `grpc.health.v1`) are what they
share. One contract suite holds them equal. Does not own what a handler does, nor Envoy's messages.
"""
