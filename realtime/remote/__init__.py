"""A running server from outside, as back ends and browsers see it: for commands, not for sites."""
