"""The tables of each data set: their names, columns and partitions in the lake and ClickHouse.

Here: what a table is called and made of. Not here: how it is filled (assets/) or what must hold
of it (checks/).
"""
