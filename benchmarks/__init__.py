"""How fast pixelmill is, against the limits of the machine and against its peers.

    make bench              everything, some 40 minutes; writes docs/benchmark.md
    make bench QUICK=1      a first look, under 5 minutes; prints it

One file for each question. Times mean nothing alone: what is compared ran in turns, in one run.
"""
