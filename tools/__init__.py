"""Generators of documentation pages and openapi.json, and the training of the embedded models. Not in the wheel."""
