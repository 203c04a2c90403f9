"""meb: builds the events that are monitored, and serves them to viewers."""
