"""Who is on call, and reaching them: schedules, escalation and paging while the tools that do it are away."""
