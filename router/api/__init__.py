"""The public HTTP API, served by collect.

addresses.py ids and numbers in an address
append/      POST /v1/messages
app.py       the operations and who answers them
away.py      how an outage is told
bounds.py    how much is taken on at once
heads.py     the head of a target
health.py    /readyz, for the whole of a system that runs on one machine
history.py   what is stored for a user, a topic or everybody
messages.py  /v1/messages/{id}
nodes.py     GET /v1/nodes
openapi.py   what the API says of itself; how to add an operation
page.py      the page at the root and what it asks for, in development
presence.py  POST /v1/presence, GET /v1/online
prefer.py    the header Prefer
sessions.py  DELETE /v1/users/{user}/sessions
subscriptions.py  /v1/users/{user}/topics
times.py     times as the API gives them
topics.py    /v1/topics/{topic}
users.py     /v1/users/{user}: where a user is, erasing them
"""
