"""The public HTTP API, served by collect.

append/      POST /v1/messages
app.py       the operations and who answers them
away.py      how an outage is told
health.py    /readyz, for the whole of a system that runs on one machine
messages.py  GET /v1/messages/{id}
nodes.py     GET /v1/nodes
openapi.py   what the API says of itself; how to add an operation
page.py      the page at the root and what it asks for, in development
prefer.py    the header Prefer
times.py     times as the API gives them
users.py     /v1/users/{user}: where a user is, what is stored for them, ending their sessions, erasing them
"""
