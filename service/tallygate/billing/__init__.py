"""Money: what the usage of a billing period comes to.

`rating` prices units, `life` and `period` say which plan version was in force and for which share of a billing
period, `home` in which period units count, `invoice` makes lines of it that add up, and `unbilled` tells the rest. All
of that is pure and exact. `postgres` reads the ledger. Nothing is charged here: an invoice is a preview, computed anew
from the ledger each time.
"""
