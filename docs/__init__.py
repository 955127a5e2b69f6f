"""How the site is built. Not installed."""
