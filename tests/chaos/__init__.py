"""Three servers on one PostgreSQL under random load and faults, and a checker of what callers were told.

make chaos                                   ten minutes
make chaos CHAOS_SECONDS=60 CHAOS_SEED=7     the same faults again, for a minute

cluster.py   one PostgreSQL, one KMS, three servers, each started again whenever it ends
load.py      callers on threads of their own; what they ask is random, what they are told is kept
faults.py    the schedule that a seed makes, and the faults themselves
history.py   one entry per attempt of a call: when, whom, what, and the answer
model.py     what a customer's data and consent are after each record of the log
checker.py   the promises, each a rule over the history and what is found after it
run.py       one run from start to verdict
"""
