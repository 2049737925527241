"""Engines map work over tasks, here or elsewhere; the plan before them and the ledger behind them do not know how."""
