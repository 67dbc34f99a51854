"""Exports: the usage ledger told to others, entry by entry, so that nothing is missing and nothing counts twice.

Each export is a cursor over the ledger's numbers. What is sent carries a key made from the entry itself (`row`), and
the cursor moves only after the receiver's answer, so whatever is cut off is sent again under the same key. `sender`
goes through the entries for receivers that are called (`stripe`, `cloudevents`, `lago`); `archive` writes a file a
day (`files`). `postgres` keeps the cursors. Nothing is priced here.
"""
