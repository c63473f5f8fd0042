"""The commands of `qi-ext`, one a module: arguments only. The scripts of launchers/ are the same in a checkout."""
