"""The crash harness: one flow, disturbed at every remote call it makes, must end as if nothing had happened.

A `Flow` says how to make a world with its inputs, how one worker runs, how things go on after whatever happened, and
what must then be true. `enumerators.every_crash`, `every_interleaving` and `every_error` do the rest.
"""
