"""The JSON views: typed dictionaries made from messages, jobs and reports, for the REST API and for `--json`.

The OpenAPI document is made from them too, so their docstrings are its descriptions.
"""
