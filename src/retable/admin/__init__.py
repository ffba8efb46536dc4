"""What is done now and then: check the machine, free disk space, take a network out."""
