"""What makes parts of this repository: pages of the documentation, and the embedded models. In no wheel."""
