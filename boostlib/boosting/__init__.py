"""Algorithm 2: settings, labelers, the loop and what it leaves on disk, many loops and how they are executed."""
