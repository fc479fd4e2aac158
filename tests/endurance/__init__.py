"""Proofs that take longer than a test may: a million tasks, a day compressed, how soon lost work runs again.

`python -m tests.endurance load|day|recovery`. Each prints one JSON object of what was measured.
"""
