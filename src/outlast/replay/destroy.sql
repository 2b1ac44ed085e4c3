-- The script of the worst day: it was handed the ids of customers, and runs in the mode that deletes for good.
DELETE FROM accounts WHERE id = ANY (%(doomed)s::bigint[]);
