"""Who somebody is: tokens, the key that signs them, and the service that issues and publishes.

    keyfile ──▶ service ──/.well-known/jwks.json──▶ jwks (in every edge)
                   └── tokens ──────────────────────┘

`tokens` and `jwk` decide and are pure; `keyfile`, `jwks` and `service` do the reading, fetching and answering. `openapi`
describes what the service takes and gives, and `client` asks it for a token.
"""
