"""Algorithm 2: settings, labelers, the loop, many loops."""
