"""Exit codes of the command line."""

EXIT_DEFECT = 1
EXIT_BAD_INPUT = 2
# 128 + SIGINT, as shells do.
EXIT_INTERRUPTED = 130
