"""The demo chat: three rooms with presence, stored messages and private notices."""
