"""What comes in: options, arrays and files, checked; and how much memory there is for them."""
