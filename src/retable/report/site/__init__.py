"""The site: every table, claim and run as static pages that need no server and no other host."""
