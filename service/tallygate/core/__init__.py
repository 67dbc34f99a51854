"""Words and small laws every other package speaks: clock, errors, ids, money, calendar periods.

Owns nothing that talks to the outside. Imports nothing of Tallygate.
"""
