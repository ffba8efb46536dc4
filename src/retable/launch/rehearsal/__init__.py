"""Rehearsals: settings at full size, counted without computing, stepped once, and their cost."""
