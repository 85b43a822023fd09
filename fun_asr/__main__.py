"""`python -m fun_asr`: the same command line as `fun-asr`."""

from fun_asr.cli import main

if __name__ == "__main__":
    main(prog_name="fun-asr")
