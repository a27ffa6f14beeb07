"""The web view: pages over the recordings of a store, and one-file reports. Needs `pip install 'unspool[web]'`.

A view only: it reads the same files with the same functions as the command line, holds nothing that is not on disk,
and changes nothing. A page is a route, data and a template; drawings are functions from data to SVG text.
"""
