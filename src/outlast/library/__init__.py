"""The local copy of tools' documents, for reading while the tool, the vault and the network are away."""
