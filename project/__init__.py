"""The reference site: a chat that shows what the ``realtime`` app offers."""
