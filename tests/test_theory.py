"""Every check of a theorem holds, and notices an error planted in the functions it uses."""
