"""The base of what the client raises.

ClientError
├── NotWelcome         the edge said not to come back
├── CursorsDamaged     what keeps the cursors cannot be read
└── CursorsOfAnother   the cursors kept belong to another user than the token
"""

from __future__ import annotations


class ClientError(Exception):
    """What ends the iteration, and trying again does not help."""
