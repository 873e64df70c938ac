"""Collect: from the producers' stream to MongoDB to the dispatch stream.

entries.py   the producer's contract                          pure
batch.py     what is to become of a batch                     pure
intake.py    Redis: take, sequence, append, bury, forward
owner.py     the steps of a batch, and what happens when one fails
service.py   leases and owners, one a shard, and the API
"""

from router.collect.service import serve

__all__ = ["serve"]
