"""`python -m router.commands`: the command, where no script is installed for it."""

from __future__ import annotations

from router.commands import main

main()
