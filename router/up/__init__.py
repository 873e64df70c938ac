"""All of Pushway on one machine: `pushway up`.

plan (what runs where) → children (one process, bound to ours) → supervisor (all of them, from first start to last stop).
"""
