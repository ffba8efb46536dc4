"""The board on a terminal: tables that fill in while their runs go on."""
