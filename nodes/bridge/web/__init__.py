"""The HTTP routes behind the page."""
