"""What people would pick instead, one module each: its ordinary packages, real processes, the same load.

Nothing of theirs is kept in this repository; the small servers here use their public interfaces as their own manuals do.
"""
