"""Generators of documentation pages and openapi.json, and the training of the tests' chat model. Not in the wheel."""
