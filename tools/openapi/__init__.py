"""The OpenAPI document of the API, made from its routes, Structs and docstrings.

``python -m tools.openapi`` writes it to where the server reads it from; a test fails when that has become stale.
"""
