"""The public HTTP API, served by collect.

app.py       the routes, and what every answer has in common
health.py    /readyz, for the whole of a system that runs on one machine
messages.py  GET /v1/messages/{id}
page.py      the page at the root and what it asks for, in development
"""

from router.api.app import api_app

__all__ = ["api_app"]
