"""`evergreen contract check`: one span held against the contract, by the code that a run reads it with."""
