"""What `pushway doctor` looks at, and what it thinks of it.

A module a group of questions. In each, `judge…` is pure: values in, findings out; what reads those values from a server decides
nothing. Nothing is written anywhere, no producer's or person's data is read, and no group waits for another.
"""
