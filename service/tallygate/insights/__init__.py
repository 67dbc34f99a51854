"""What is learnt from decisions beside deciding: reports, never a condition of an answer.

`shadow` counts what a plan version, or a limit, in shadow would have refused. Does not own enforcement or billing;
what is counted here may be lost with a process, up to one flush.
"""
