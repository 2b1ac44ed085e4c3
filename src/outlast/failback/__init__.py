"""What was entered at the desk while a tool was away goes to the tool: shown first, sent once, and never in silence."""
