"""What apps of other people's send as positions, read into fixes: bytes in, values out."""
