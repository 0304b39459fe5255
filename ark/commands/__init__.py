"""What ``ark`` can do, a module for each command."""
