"""ARK's own backends. Importing this package loads no engine; each backend loads its own when a model is opened."""

from ark_backends.kit.environment import set_defaults

set_defaults()
