"""The same numbers as the method's definitions, faster; each part is tested to be equal to them."""
