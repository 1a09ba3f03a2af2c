"""People are told what failed and what is mended: once, with where, how badly, and a link.

Here: what the event log says (findings), what is remembered from tick to tick (memory), what
belongs together (groups), the words (messages), and the two sensors. Not here: how a message gets
to its address (resources/notifier.py).
"""
