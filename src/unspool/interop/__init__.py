"""Runs that unspool did not record, and runs for tools that are not unspool.

Importers read a file into `imported.Run` (or spans) and know nothing of the store; `writing` and `ingest` put them
there. Exporters turn spans into the bytes of another format. Adding a format is one module and one entry of a table.
"""
