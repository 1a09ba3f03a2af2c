"""The programs that one machine runs for the lakehouse: start, find, stop, describe them.

Here: process handling, fetching programs, configuration of local servers. Not here: talking to
them (resources/) or what goes into them (assets/).
"""
