"""A module of hooks that cannot be imported."""

1 / 0
