"""Plans: the plan file, what it means, and what it compiles to.

`document` holds the values, `parse` reads a file and names every mistake in it, `codec` is the form the
database keeps, `compile` turns a plan and a contract into the Terms of a license. Pure: reads no file,
asks no clock. Does not own who may publish a plan, nor what the money comes to.
"""
