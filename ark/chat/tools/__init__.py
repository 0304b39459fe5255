"""Tools: what a request offers, and the calls that a reply makes."""
