"""What an operator edits, and the one loader of it."""
