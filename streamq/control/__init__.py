"""The control plane: questions about a queue, and an operator's actions on it.

Owns `inspector` (reads only) and `admin` (writes), and what they are made of. Knows no handler's code.
"""
