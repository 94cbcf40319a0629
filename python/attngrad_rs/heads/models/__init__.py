"""Two small models that run on a text, and what makes heads of them."""
