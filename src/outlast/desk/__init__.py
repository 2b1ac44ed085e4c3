"""What people enter while they stand in: tickets and comments, kept until the tool that they belong to is back."""
