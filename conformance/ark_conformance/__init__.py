"""Shows what works of an OpenAI-compatible server: calls written as data, replayed through OpenAI's own client.

``ark-conformance --base-url URL --api-key KEY`` runs the calls that ship with this package; `ark_conformance.plugin`
runs them inside pytest. Nothing here knows the server's code: it speaks HTTP, and knows what it is told.
"""

from pathlib import Path

__all__ = ["SHIPPED", "__version__"]

__version__ = "0.1.0"

SHIPPED = Path(__file__).parent / "calls"
"""The directory of the call files that come with the package."""
