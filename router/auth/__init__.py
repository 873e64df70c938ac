"""Who somebody is: tokens, the key that signs them, and the service that issues and publishes.

    keyfile ──▶ service ──/.well-known/jwks.json──▶ jwks ──────┐
                   └── tokens ──────────────────────┘          │
    an issuer's keys or secret ──▶ issuer (foreign, trusted) ──┼──▶ ways (in every edge)
    a service of the customer's ─▶ callback (judgement) ───────┘

`tokens`, `jwk`, `foreign`, `trusted`, `judgement`, `breaker` and `remembered` decide and are pure; `keyfile`, `published`,
`issuer`, `callback` and `service` do the reading, fetching and answering, and `outward` is how others are asked. `openapi`
describes what the service takes and gives, and `client` asks it for a token.
"""
