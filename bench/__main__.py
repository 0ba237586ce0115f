"""`python -m bench`: the same as `readback bench`."""

from bench.cli import app

if __name__ == "__main__":
    app(prog_name="readback bench")
