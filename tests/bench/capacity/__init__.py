"""How large a system has to be for a load.

What things cost (`costs`), what they add up to (`plan`), what breaks first as it grows (`growth`), and how well all of it
foretells what was measured beside (`check`).
"""
