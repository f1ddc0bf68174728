"""Who is where, as rows that survive the process that wrote them.

ledger   collects what happens here, commits it in groups, announces what changed
store    the transaction: transitions in, changes out
census   the questions of the API and of staff
lease    the claim of a process to be alive, and the reaping of those that are not
"""
