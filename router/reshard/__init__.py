"""Taking a drained system to another number of shards, with nothing lost."""
