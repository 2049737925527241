"""Who does the work: engines map it over tasks. The plan before them and the ledger behind them do not know how."""
