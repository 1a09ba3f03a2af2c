"""What people read after a month was made: a page of HTML that needs nothing else.

Here: what a report says, and how it looks; pure functions. Not here: where its figures come from,
and when it is written (automation/reports.py).
"""
