"""What this host keeps for itself: disposable, rebuildable, encrypted under the host key."""
