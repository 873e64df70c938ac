"""Malformed and hostile input, a door a module: what comes, what it is answered, and that nobody else notices.

In the order of the doors: `wire` (frames, a row a rule of RFC 6455), `upgrade` (requests that two readers could understand
differently), `http` (the same at API and auth), `tokens`, `ids` (at every door that takes one), `operators` (of MongoDB),
`outward` (where services that are asked would lead an edge), `producer` (what is appended), `channel` (what is published).
"""
