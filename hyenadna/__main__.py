"""``python -m hyenadna`` is the command line."""

from hyenadna.cli import run

if __name__ == "__main__":
    run()
