"""What people do to licenses: use cases, without a transport.

`records` are the values people see, `operations` the use cases, `postgres` their rows. One use case is
one transaction: rows, compiled license, audit entry and change notice become visible together or not at
all. Does not own how a command is typed (`cli/`) or a license is read (`licenses/`).
"""
