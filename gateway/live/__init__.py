"""Positions through a node: judged, kept, shown live here and on the other nodes."""
