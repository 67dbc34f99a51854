"""The command line: one file per noun, thin over `admin` and `app`.

Owns how a command is typed and how its answer looks. Exit codes: 0 done, 1 failed, 2 bad input; bad
input never shows a traceback.
"""
