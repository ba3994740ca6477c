"""The `lapcore` command."""
