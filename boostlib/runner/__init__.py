"""papermill and the command line: execute, sweep, status, doctor."""
