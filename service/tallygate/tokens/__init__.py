"""Tokens as text: what they look like, how they are made, and the digest they are known by.

Owns format, checksum, digest, minting. Does not own where a caller puts a token (`credentials/`) nor
what it may do (`licenses/`). Pure: entropy and peppers are passed in.
"""
