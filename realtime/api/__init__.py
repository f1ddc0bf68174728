"""HTTP edges: the Pusher HTTP API, the auth endpoints of the site, the staff's actions."""
