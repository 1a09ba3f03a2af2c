"""The kinds of place that objects are kept in: a folder, Google Cloud Storage, S3.

Here: how one object is written whole, looked up, listed and fetched in one place. Not here: which
places there are, and the copies of objects on this machine (resources/objects.py).
"""
