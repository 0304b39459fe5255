"""ARK's own backends. Importing this package loads no engine; each backend loads its own when a model is opened."""
