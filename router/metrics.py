"""The figures every service keeps, served at /metrics of its ops port.

Base units, `_total` for what only grows, and never a user, topic or id in a label.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ACCEPTED = Counter("pushway_accepted", "Messages stored in MongoDB, one a target.")
REPEATED = Counter("pushway_repeated", "Messages whose id had been accepted before.")
RECOVERED = Counter("pushway_recovered", "Messages appended anew after Redis had restarted or failed over.")
TRANSIENT = Counter("pushway_transient", "Transient messages handed to dispatch by collect.")
DEAD = Counter("pushway_dead", "Entries moved to the dead-letter stream.", ["source"])
DISPATCHED = Counter("pushway_dispatched", "Messages read by dispatch and published to the nodes that hold a route.")
OFFLINE = Counter("pushway_offline", "Durable messages reported to the offline stream.")
TRACE_LOST = Counter("pushway_trace_lost", "Trace events that could not be written; the messages themselves went on.")
MONGO_SECONDS = Histogram("pushway_mongo_seconds", "Time of a call to MongoDB's inbox, by operation.", ["operation"])
LEASES = Gauge("pushway_leases", "Shards whose lease this process holds.", ["role"])

SESSIONS = Gauge("pushway_sessions", "Sessions that hear messages: authenticated and not closing.")
CONNECTIONS = Gauge("pushway_connections", "Open TCP connections, those in the handshake included.")
DELIVERED = Counter("pushway_delivered", "Message frames written to sessions.")
DUPLICATES = Counter("pushway_duplicates", "Messages dropped because the session had that seq already.")
EXPIRED = Counter("pushway_expired", "Messages dropped because their time was over.")
GAPS = Counter("pushway_gaps", "Messages whose prev the session had not seen.")
CLOSES = Counter("pushway_closes", "Sessions closed by the edge, by close code.", ["code"])
LAPSED = Counter("pushway_lapsed_routes", "Renewals that found the route gone: messages may have been missed.")
BEHIND = Counter("pushway_sessions_behind", "Sessions found behind the head after a loss; some of it may be on its way still.")
REPLAYED = Counter("pushway_replayed", "Messages read from MongoDB for sessions that were behind.")
CURSORS_WRITTEN = Counter("pushway_cursors_written", "Device cursors written to MongoDB, behind the acks that moved them.")
CURSORS_WAITING = Gauge("pushway_cursors_waiting", "Device cursors that wait to be written.")
CURSORS_DROPPED = Counter("pushway_cursors_dropped", "Device cursors never written, because too many waited.")
RESUBSCRIBED = Counter("pushway_resubscribed", "Times the edge subscribed anew, by reason.", ["reason"])

TOKENS_ISSUED = Counter("pushway_tokens_issued", "Tokens issued by auth.")
