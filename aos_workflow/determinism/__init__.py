"""Determinism: that a step performed again gives the same, and what to do where it would not.

    capture       around a step's body: chance, time and requests of untouched code, recorded and served back
    seal          around a replay: nothing outside of the process is reached
    fingerprint   what code a step consists of
    lint          before anything runs: what in the text of a step would differ the next time

Each is entered by its own name; importing this package enters none.
"""
