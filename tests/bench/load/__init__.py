"""The load generator: a process that subscribes, publishes, counts and hardly parses."""
