"""What any other part may use, and what uses no other part."""
