"""TLS, at our own doors and on the way to others.

addresses (what is asked of TLS, and what of it is refused) → trust (whom clients believe)
certificate (what our servers show, read anew when it changes) → sealed (TLS between a socket and its protocol)
"""
