"""The catalog: what lists and searches need to know of every recording of a store, kept in `catalog.sqlite`.

A cache and nothing else: it is made from the recordings, checked against their files before anything of it is shown,
and can be deleted at any time.
"""
