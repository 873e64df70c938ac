"""The API keys that back ends show: who each belongs to, what it may do, how it is changed.

scopes.py  what a key may be good for                                         pure
key.py     a key, and the file of them as text                                pure
changes.py what is done with a file of keys                            pure
ring.py    the keys that are good now, and whose a shown one is               pure
file.py    the file: reading, writing, looking whether it has changed
"""
