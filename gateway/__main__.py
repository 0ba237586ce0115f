"""`python -m gateway` is `readback`, for where the script is not on PATH."""

from gateway.cli import main

if __name__ == "__main__":
    main()
