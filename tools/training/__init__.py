"""Scripts that made the embedded models. Nothing here is needed to serve them."""
