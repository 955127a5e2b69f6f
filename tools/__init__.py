"""What knows the checkout: running notebooks, pages of figures, edges for make. Not installed."""
