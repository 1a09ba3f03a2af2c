"""Sample files in the publishers' formats, for the demonstration and the tests.

The same seed makes the same bytes.
"""
