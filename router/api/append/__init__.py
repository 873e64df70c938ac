"""POST /v1/messages: append one message, or an array of them.

schema.py    what a request may say, for the API's description       pure
reading.py   what a request says                                     pure
answers.py   what has become of each message, and how that is told   pure
lanes.py     to which streams it goes, as which entries              pure
lookup.py    what is stored already of the ids that a client chose
appender.py  looks up ids, and appends
waiting.py   waits until all is stored, where that is preferred
post.py      the operation and who answers it: through all of these
"""
