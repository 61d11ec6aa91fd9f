"""What lies in the storage: how a video comes there, what it is, whether it is in order, how long it stays."""
