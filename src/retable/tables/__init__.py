"""Tables: the file, the runs it stands for, and the cells made from their records."""
