"""What every HTTP service is made of; what it does, each says for itself (router.api, router.auth).

operations.py  how an operation is described                                  pure
openapi.py     the document that is made of the descriptions                  pure
app.py         the application that is made of them: routes, keys, addresses
access.py      the API key
problems.py    how a request is refused
media.py       what a request comes as
figures.py     answers counted by route
reference.py   the page that shows the document to people; its files in reference/
protocol.py    HTTP/1.1, refusing what is none
safety.py      what every answer tells a browser
server.py      the socket, and how serving ends
"""
