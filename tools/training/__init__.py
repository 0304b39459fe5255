"""Scripts that made the chat model of the tests. Nothing here is needed to serve it."""
