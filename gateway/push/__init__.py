"""Pushes to phones through Apple's and Google's services: an outbox of the workers, and the connections that it goes out by."""
