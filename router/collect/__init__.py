"""Collect: from the producers' stream to MongoDB to the dispatch stream.

entries.py   the producer's contract                          pure
batch.py     what is to become of a batch                     pure
intake.py    Redis: take, sequence, append, bury, forward
schedule.py  MongoDB: what waits for its time, and when the next is due
recovery.py  what is done when Redis may have forgotten something
eras.py      MongoDB: which Redis a shard was last worked on
owner.py     the steps of a batch, and what happens when one fails
service.py   leases and owners, one a shard, and the API
"""
