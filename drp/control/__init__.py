"""Run control of a partition: its states, its members, its run numbers and its ledger."""
