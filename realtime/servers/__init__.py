"""What makes a particular server stricter than it is by itself; a site may do without."""
