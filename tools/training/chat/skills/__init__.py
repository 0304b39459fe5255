"""What the model is taught, one file per kind of skill."""
