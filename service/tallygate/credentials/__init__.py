"""Where a caller may put a token, and what makes a request's credentials ambiguous.

Pure. Owns the places (header, query parameter, cookie) and their removal. Does not own the token's form.
"""
